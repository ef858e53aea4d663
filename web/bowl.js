// SPDX-License-Identifier: ISC
/** The stadium seen from above, as SVG: each block a wedge.  Only as true as the site's tree: areas share the circle by size. */
const SVG = 'http://www.w3.org/2000/svg';
const MANY_SECTIONS = 4;		// up to here a section is a tier of its area; beyond, a slice of it

/** @returns {{svg: SVGElement, wedges: Map<string, SVGElement>}} wedges by block id */
export function drawBowl(areas) {
  const svg = shape('svg', { viewBox: '-132 -104 264 208' });
  svg.append(patterns(), pitch());
  const wedges = new Map();
  const weight = (area) => Math.max(1, area.sections.reduce((sum, section) => sum + section.blocks.length, 0));
  const total = areas.reduce((sum, area) => sum + weight(area), 0);
  let from = -Math.PI * 0.75;
  for (const area of areas) {
    const to = from + (weight(area) / total) * 2 * Math.PI;
    for (const { block, path } of areaWedges(area, from + 0.035, to - 0.035)) {
      const node = shape('path', { d: path, class: 'wedge' });
      node.dataset.block = String(block.id);
      wedges.set(String(block.id), node);
      svg.append(node);
    }
    from = to;
  }
  return { svg, wedges };
}

function areaWedges(area, from, to) {
  const count = area.sections.length;
  return area.sections.flatMap((section, index) => {
    const n = section.blocks.length;
    if (count <= MANY_SECTIONS) return tiers(section.blocks, from, to, index / count, (index + 1) / count, 1);
    const slice = (to - from) / count;
    return tiers(section.blocks, from + index * slice, from + (index + 1) * slice, 0, 1, n < 3 ? 1 : n < 7 ? 2 : 3);
  });
}

function tiers(blocks, from, to, inner, outer, count) {
  const columns = Math.ceil(blocks.length / count);
  return blocks.map((block, index) => {
    const tier = Math.floor(index / columns);
    const inThisTier = Math.min(columns, blocks.length - tier * columns);
    const slice = (to - from) / inThisTier;
    const height = (outer - inner) / count;
    const start = from + (index % columns) * slice;
    return { block, path: wedge(start, start + slice, inner + tier * height, inner + (tier + 1) * height) };
  });
}

/** A point of the bowl: angle, and depth from the pitch (0) to the roof (1). */
function point(angle, depth) {
  const x = (68 + depth * 61) * Math.cos(angle);
  const y = (48 + depth * 53) * Math.sin(angle);
  return `${x.toFixed(1)} ${y.toFixed(1)}`;
}

function wedge(from, to, inner, outer) {
  const gap = Math.min(0.014, (to - from) / 8);
  const steps = Array.from({ length: 5 }, (_, i) => from + gap + ((to - from - 2 * gap) * i) / 4);
  const shrink = Math.min(0.03, (outer - inner) / 8);
  const points = [...steps.map((angle) => point(angle, inner + shrink)), ...steps.reverse().map((angle) => point(angle, outer - shrink))];
  return `M${points.join('L')}Z`;
}

/** Sold out is hatched: to be told from "few" without colour. */
function patterns() {
  const defs = shape('defs');
  for (const [id, d] of [['hatch', 'M-1 5L5 -1M-1 1L1 -1M3 5L5 3'], ['dots', 'M2 2h.01']]) {
    const pattern = shape('pattern', { id, width: 4, height: 4, patternUnits: 'userSpaceOnUse' });
    pattern.append(shape('rect', { width: 4, height: 4, class: `${id}-ground` }), shape('path', { d, class: `${id}-line` }));
    defs.append(pattern);
  }
  return defs;
}

function pitch() {
  const group = shape('g', { class: 'grass' });
  group.append(shape('rect', { x: -50, y: -31, width: 100, height: 62, rx: 5 }));
  return group;
}

function shape(name, attributes = {}) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

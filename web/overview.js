import * as api from './api.js';

const SVG = 'http://www.w3.org/2000/svg';
const MANY_SECTIONS = 4;		// up to here a section is a tier of its area; beyond, a slice of it

/**
 * Overview - the stadium: areas, their sections, their blocks.
 *
 * Drawn twice: as a bowl seen from above, for eyes and pointers, and as a list of links, which is the one that
 * keyboards and screen readers use.  Both are only as true as the site's tree: areas share the circle by size.
 */
export class Overview {
  #tree; #bowl; #choose;
  #areas = [];

  constructor(tree, bowl, choose) {
    this.#tree = tree;
    this.#bowl = bowl;
    this.#choose = choose;
  }

  async load() {
    this.#areas = await Promise.all((await api.areas()).map(async (area) => ({
      ...area,
      sections: await Promise.all((await api.sections(area.id)).map(async (section) => ({
        ...section, blocks: await api.blocks(section.id),
      }))),
    })));
    this.#drawTree();
    this.#drawBowl();
  }

  first() { return this.#paths().next().value?.block; }

  /** @returns {{area: any, section: any, block: any}|undefined} */
  find(blockId) {
    for (const path of this.#paths()) if (String(path.block.id) === String(blockId)) return path;
    return undefined;
  }

  mark(blockId) {
    for (const node of document.querySelectorAll('[data-block]')) {
      const here = node.dataset.block === String(blockId);
      if (here) node.setAttribute('aria-current', 'page'); else node.removeAttribute('aria-current');
      if (here) node.closest('details')?.setAttribute('open', '');
    }
  }

  * #paths() {
    for (const area of this.#areas) {
      for (const section of area.sections) for (const block of section.blocks) yield { area, section, block };
    }
  }

  #drawTree() {
    this.#tree.replaceChildren(...this.#areas.map((area) => {
      const details = element('details', 'area');
      details.name = 'area';			// one open at a time, where the browser knows how
      details.append(element('summary', '', area.name), ...area.sections.map((section) => this.#drawSection(section)));
      return details;
    }));
  }

  #drawSection(section) {
    const box = element('div', 'section');
    const list = element('ul', 'chips');
    list.append(...section.blocks.map((block) => {
      const item = element('li');
      const link = element('a', 'chip', block.name);
      link.href = this.#address(block.id);
      link.dataset.block = String(block.id);
      link.addEventListener('click', (event) => this.#clicked(event, block));
      item.append(link);
      return item;
    }));
    box.append(element('h2', '', section.name), list);
    return box;
  }

  #address(blockId) {
    const url = new URL(location.href);
    url.searchParams.set('block', String(blockId));
    return url.search;
  }

  #clicked(event, block) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;	// another tab: the browser's business
    event.preventDefault();
    this.#choose(block);
  }

  #drawBowl() {
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', '-132 -104 264 208');
    svg.append(pitch());
    const weight = (area) => Math.max(1, area.sections.reduce((sum, section) => sum + section.blocks.length, 0));
    const total = this.#areas.reduce((sum, area) => sum + weight(area), 0);
    let from = -Math.PI * 0.75;
    for (const area of this.#areas) {
      const to = from + (weight(area) / total) * 2 * Math.PI;
      this.#drawArea(svg, area, from + 0.035, to - 0.035);
      from = to;
    }
    this.#bowl.replaceChildren(svg);
  }

  #drawArea(svg, area, from, to) {
    const count = area.sections.length;
    area.sections.forEach((section, index) => {
      const n = section.blocks.length;
      if (count <= MANY_SECTIONS) {
        return this.#drawBlocks(svg, section.blocks, from, to, index / count, (index + 1) / count, 1);
      }
      const slice = (to - from) / count;
      return this.#drawBlocks(svg, section.blocks, from + index * slice, from + (index + 1) * slice, 0, 1, n < 3 ? 1 : n < 7 ? 2 : 3);
    });
  }

  #drawBlocks(svg, blocks, from, to, inner, outer, tiers) {
    const columns = Math.ceil(blocks.length / tiers);
    blocks.forEach((block, index) => {
      const tier = Math.floor(index / columns);
      const inThisTier = Math.min(columns, blocks.length - tier * columns);
      const slice = (to - from) / inThisTier;
      const height = (outer - inner) / tiers;
      const start = from + (index % columns) * slice;
      const node = wedge(start, start + slice, inner + tier * height, inner + (tier + 1) * height);
      node.dataset.block = String(block.id);
      const title = document.createElementNS(SVG, 'title');
      title.textContent = block.name;
      node.append(title);
      node.addEventListener('click', () => this.#choose(block));
      svg.append(node);
    });
  }
}

function element(tag, className = '', text = '') {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** A point of the bowl: angle, and depth from the pitch (0) to the roof (1). */
function point(angle, depth) {
  const x = (66 + depth * 62) * Math.cos(angle);
  const y = (46 + depth * 54) * Math.sin(angle);
  return `${x.toFixed(1)} ${y.toFixed(1)}`;
}

function wedge(from, to, inner, outer) {
  const gap = Math.min(0.012, (to - from) / 8);
  const steps = Array.from({ length: 5 }, (_, i) => from + gap + ((to - from - 2 * gap) * i) / 4);
  const shrink = Math.min(0.03, (outer - inner) / 8);
  const points = [...steps.map((angle) => point(angle, inner + shrink)), ...steps.reverse().map((angle) => point(angle, outer - shrink))];
  const node = document.createElementNS(SVG, 'path');
  node.setAttribute('d', `M${points.join('L')}Z`);
  node.setAttribute('class', 'wedge');
  return node;
}

function pitch() {
  const node = document.createElementNS(SVG, 'g');
  node.setAttribute('class', 'grass');
  const shapes = [['rect', { x: -46, y: -28, width: 92, height: 56, rx: 4 }], ['path', { d: 'M0-28V28' }], ['circle', { r: 9 }]];
  for (const [name, attributes] of shapes) {
    const shape = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    node.append(shape);
  }
  return node;
}

// SPDX-License-Identifier: ISC
import { drawBowl } from './bowl.js';
import { element } from './dom.js';
import { localName, texts } from './texts.js';

/** How much is left, in steps that a colour can tell: none, held (none, but it may come back), few, some, many; empty: there are no seats. */
export function levelOf(counts) {
  if (!counts) return 'empty';
  const all = counts.available + counts.hold + counts.occupied;
  if (all === 0) return 'empty';
  if (counts.available === 0) return counts.hold ? 'held' : 'none';
  const share = counts.available / all;
  return share < 0.15 ? 'few' : share < 0.5 ? 'some' : 'many';
}

/**
 * Stadium - areas, sections, blocks, and how many seats each has left.
 *
 * Drawn twice: as a bowl seen from above, for eyes and pointers, and as a list of links, which is the one that
 * keyboards and screen readers use.  What is pointed at or focused, in either, is told in the middle of the bowl.
 */
export class Stadium {
  #tree; #bowl; #readout; #choose;
  #areas = [];
  /** @type {Map<string, {area: any, section: any, block: any}>} */ #paths = new Map();
  #wedges = new Map();
  #chips = new Map();
  #counts = null;
  #shown = '';
  #current = '';

  constructor({ tree, bowl, readout }, choose) {
    this.#tree = tree;
    this.#bowl = bowl;
    this.#readout = readout;
    this.#choose = choose;
    for (const [root, on, off] of [[bowl, 'pointerover', 'pointerleave'], [tree, 'pointerover', 'pointerleave'], [tree, 'focusin', 'focusout']]) {
      root.addEventListener(on, (event) => this.#tell(event.target.closest('[data-block]')?.dataset.block ?? this.#current));
      root.addEventListener(off, () => this.#tell(this.#current));
    }
    bowl.addEventListener('click', (event) => this.#chosen(event.target.closest('[data-block]')?.dataset.block));
    tree.addEventListener('click', (event) => this.#clicked(event));
  }

  get first() { return this.#paths.values().next().value?.block.id; }
  get known() { return this.#paths.size > 0; }

  /** @returns {{area: any, section: any, block: any}|undefined} with names in the reader's language */
  find(blockId) { return this.#paths.get(String(blockId)); }

  draw(areas) {
    const named = ({ id, name }) => ({ id, name: localName(name) });
    this.#areas = areas.map((area) => ({ ...named(area), sections: area.sections.map((section) => ({ ...named(section), blocks: section.blocks.map(named) })) }));
    this.#paths = new Map(this.#areas.flatMap((area) => area.sections.flatMap((section) => section.blocks.map((block) => [String(block.id), { area, section, block }]))));
    const { svg, wedges } = drawBowl(this.#areas);
    this.#wedges = wedges;
    this.#bowl.replaceChildren(svg);
    this.#chips.clear();
    this.#tree.replaceChildren(...this.#areas.map((area) => this.#drawArea(area)));
    if (this.#counts) this.update(this.#paths.keys(), this.#counts);
    this.mark(this.#current);
  }

  /** What is left of these blocks has changed. */
  update(blockIds, counts) {
    // With the first news those are known that have no seats at all.
    const ids = this.#counts ? blockIds : this.#paths.keys();
    this.#counts = counts;
    for (const id of ids) this.#paint(String(id), counts.get(id) ?? counts.get(Number(id)));
    this.#tell(this.#shown);
  }

  mark(blockId) {
    this.#current = String(blockId);
    for (const nodes of [this.#wedges, this.#chips]) {
      for (const [id, node] of nodes) {
        if (id === this.#current) node.setAttribute('aria-current', 'page'); else node.removeAttribute('aria-current');
      }
    }
    const wedge = this.#wedges.get(this.#current);
    wedge?.parentNode.append(wedge);		// above its neighbours
    this.#chips.get(this.#current)?.closest('.area').setAttribute('open', '');
    this.#tell(this.#current);
  }

  #paint(id, counts) {
    const level = levelOf(counts);
    const wedge = this.#wedges.get(id);
    if (wedge) wedge.dataset.level = level;
    const chip = this.#chips.get(id);
    if (!chip) return;
    chip.dataset.level = level;
    const left = ['none', 'empty', 'held'].includes(level) ? texts.level[level] : String(counts.available);
    if (chip.lastChild.textContent !== left) chip.lastChild.textContent = left;
  }

  #tell(id) {
    this.#shown = id;
    const path = this.find(id);
    const counts = this.#counts?.get(path?.block.id);
    const [name, left] = this.#readout.children;
    name.textContent = path?.block.name ?? '';
    left.textContent = !path || !this.#counts ? '' : counts ? texts.left(counts.available, total(counts)) : texts.level.empty;
  }

  #drawArea(area) {
    const details = element('details', 'area');
    details.name = 'area';			// one open at a time, where the browser knows how
    details.append(element('summary', '', area.name), ...area.sections.map((section) => this.#drawSection(section)));
    return details;
  }

  #drawSection(section) {
    const box = element('div', 'section');
    const list = element('ul', 'chips');
    list.setAttribute('aria-label', section.name);
    list.append(...section.blocks.map((block) => {
      const item = element('li');
      const link = element('a', 'chip');
      link.href = address(block.id);
      link.dataset.block = String(block.id);
      link.append(element('span', '', block.name), ' ', element('span', 'chip-left', ''));
      this.#chips.set(String(block.id), link);
      item.append(link);
      return item;
    }));
    box.append(element('p', 'section-name', section.name), list);
    return box;
  }

  #clicked(event) {
    const link = event.target.closest('[data-block]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;	// another tab: the browser's business
    event.preventDefault();
    this.#chosen(link.dataset.block);
  }

  #chosen(id) {
    if (id !== undefined) this.#choose(this.find(id).block.id);
  }
}

export function total({ available, hold, occupied }) { return available + hold + occupied; }

/** The page, showing that block. */
export function address(blockId) {
  const url = new URL(location.href);
  url.searchParams.set('block', String(blockId));
  return url.search;
}

// SPDX-License-Identifier: ISC
export const $ = (/** @type {string} */ id) => document.getElementById(id);

export function element(tag, className = '', text = '') {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

export function pause(ms) { return new Promise((resolve) => { setTimeout(resolve, ms); }); }

/** Writes only what is new: a node that is set anew is laid out anew. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

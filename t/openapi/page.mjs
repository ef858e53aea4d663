// SPDX-License-Identifier: ISC
// node t/openapi/page.mjs NODE_MODULES doc/openapi.yaml >doc/openapi.html
// The interface as a page for people: no script, nothing loaded from elsewhere.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

const [modules, spec] = process.argv.slice(2)
const yaml = createRequire(resolve(modules) + '/')('js-yaml')
const api = yaml.load(readFileSync(spec, 'utf8'))
const at = ref => ref.slice(2).split('/').reduce((o, k) => o[k], api)
const real = o => o?.$ref ? at(o.$ref) : o
const html = s => String(s).replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c])
const prose = s => html(s.trim()).replace(/`([^`]+)`/g, '<code>$1</code>').replace(/\n\n+/g, '</p><p>')
const schema = s => s.$ref ? `<a href="#${s.$ref.split('/').pop()}">${s.$ref.split('/').pop()}</a>` : s.const !== undefined ? `<code>${html(s.const)}</code>` : html(s.type ?? 'text')

// A schema as the JSON that it describes, with names where it refers to another.
function shape(s, indent = '') {
	const more = indent + '  '
	if (s.$ref) return schema(s)
	if (s.const !== undefined) return html(JSON.stringify(s.const))
	if (s.enum) return s.enum.map(v => html(JSON.stringify(v))).join(' or ')
	if (s.type === 'object')
		return '{\n' + Object.entries(s.properties ?? {}).map(([k, v]) =>
			`${more}"${k}": ${shape(v, more)}${(s.required ?? []).includes(k) ? '' : '   <i>(not always)</i>'}`).join(',\n') + `\n${indent}}`
	if (s.type === 'array') return `[ ${shape(s.items, indent)}, … ]`
	return s.pattern ? `text <code>${html(s.pattern)}</code>` : s.type === 'integer' ? (s.maximum ? `${s.minimum} to ${String(s.maximum).replace('9223372036854776000', '9223372036854775807')}` : 'whole number') : html(s.type)
}

function parameters(list) {
	if (!list.length) return ''
	return '<table><tr><th>parameter</th><th>in</th><th></th></tr>' + list.map(real).map(p =>
		`<tr><td><code>${html(p.name)}</code></td><td>${p.in}</td><td>${prose(p.description ?? '')} ${p.schema.pattern ? `<code>${html(p.schema.pattern)}</code>` : ''}</td></tr>`).join('') + '</table>'
}

function responses(all) {
	return '<table><tr><th>status</th><th>what</th><th>body</th></tr>' + Object.entries(all).map(([status, r]) => {
		const o = real(r)
		const head = Object.entries(o.headers ?? {}).map(([name, h]) => {
			const s = real(h).schema
			return `<br><code>${name}${s.const ? ': ' + html(s.const) : ''}</code>`
		}).join('')
		const body = Object.entries(o.content ?? {}).map(([type, c]) => `<code>${type}</code> ${c['x-events']
			? Object.entries(c['x-events']).map(([e, s]) => `<br>event <code>${e}</code>: ${schema(s)}`).join('') : schema(c.schema)}`).join('<br>')
		return `<tr><td>${status}</td><td>${prose(o.description)}${head}</td><td>${body}</td></tr>`
	}).join('') + '</table>'
}

const operations = Object.entries(api.paths).flatMap(([path, item]) => ['get', 'post'].filter(m => item[m]).map(m => ({ path, method: m.toUpperCase(), o: item[m], common: item.parameters ?? [] })))
const out = [`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>seatcast ${html(api.info.version)}: HTTP interface</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<!-- SPDX-License-Identifier: ISC -->
<!-- Made of doc/openapi.yaml by t/openapi/page.mjs: change that. -->
<style>
:root{color-scheme:light dark}body{font:16px/1.55 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:3rem;border-bottom:1px solid #8886}h3{margin:2.2rem 0 .3rem}h3 code{font-size:1rem;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:.92rem}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #8884}
pre{overflow-x:auto;border:1px solid #8884;border-radius:.4rem;padding:.6rem}code{font-size:.9em}.method{font-weight:700;margin-right:.5rem}
</style></head><body>
<h1>seatcast ${html(api.info.version)}: HTTP interface</h1><p>${prose(api.info.description)}</p>`]
for (const tag of api.tags) {
	out.push(`<h2 id="tag-${tag.name}">${tag.name}</h2><p>${prose(tag.description)}</p>`)
	for (const { path, method, o, common } of operations.filter(x => x.o.tags[0] === tag.name)) {
		out.push(`<h3 id="${o.operationId}"><span class="method">${method}</span><code>${html(path)}</code></h3><p>${prose(o.summary)}.${o.description ? ' ' + prose(o.description) : ''}</p>`)
		out.push(parameters([...common, ...(o.parameters ?? [])]))
		const body = real(o.requestBody)
		if (body) out.push(`<p>Body: ${schema(body.content['application/json'].schema)}. ${prose(body.description ?? '')}</p>`)
		out.push(responses(o.responses))
	}
}
out.push('<h2 id="schemas">What is in them</h2>')
for (const [name, s] of Object.entries(api.components.schemas)) out.push(`<h3 id="${name}">${name}</h3><pre>${shape(s)}</pre>`)
out.push('</body></html>')
console.log(out.filter(x => x).join('\n'))

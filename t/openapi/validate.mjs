// SPDX-License-Identifier: ISC
// node t/openapi/validate.mjs NODE_MODULES SPEC.yaml [FILE.jsonl ...]
// First the specification itself, then every answer and event that t/lib/Answers.pm has written.  Prints one JSON object:
// counts, what of the specification was seen, and the faults.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const [modules, spec, ...files] = process.argv.slice(2)
const require = createRequire(resolve(modules) + '/')
const { validate, dereference } = await import(pathToFileURL(require.resolve('@readme/openapi-parser')))
const Ajv = require('ajv/dist/2020').default

const result = { faults: [], answers: 0, events: 0, distinct: 0, foreign: 0, seen: {} }
const checked = await validate(spec)
if (!checked.valid) {
	result.faults = checked.errors.map(e => e.message)
	console.log(JSON.stringify(result))
	process.exit(0)
}
const api = await dereference(spec)
const ajv = new Ajv({ strict: false, allErrors: false })
ajv.addFormat('int64', true)
const compiled = new Map()
const check = (schema, value) => {
	if (!compiled.has(schema)) compiled.set(schema, ajv.compile(schema))
	const ok = compiled.get(schema)
	return ok(value) ? null : ajv.errorsText(ok.errors)
}

const id = /^[1-9][0-9]{0,18}$/
const paths = Object.entries(api.paths).map(([pattern, item]) =>
	({ pattern, item, re: new RegExp('^' + pattern.replace(/\{\w+\}/g, '([^/]*)') + '$') }))
const error = api.components.responses.Error.content['application/json'].schema
const wantedMethods = item => ['get', 'post', 'put', 'delete'].filter(m => item[m]).flatMap(m => m === 'get' ? ['GET', 'HEAD'] : [m.toUpperCase()])

function match(path) {
	const bare = path.replace(/\?.*/s, '')
	for (const p of paths) {
		const m = p.re.exec(bare)
		if (m) return { ...p, ids: m.slice(1).every(x => id.test(x) && BigInt(x) <= 9223372036854775807n) }
	}
	return null
}

function headers(response, given) {
	for (const [name, header] of Object.entries(response.headers ?? {})) {
		const value = given[name.toLowerCase()]
		if (value === undefined) {
			if (header.required) return `no header ${name}`
			continue
		}
		const wrong = check(header.schema, value)
		if (wrong) return `header ${name}: ${value}: ${wrong}`
	}
	return null
}

function body(response, a) {
	const type = (a.headers['content-type'] ?? '').replace(/;.*/, '')
	const media = (response.content ?? {})[type]
	if (!response.content) return a.body ? 'a body where there is none' : null
	if (!media) return `content type "${type}"`
	if (a.method === 'HEAD' || type === 'text/event-stream') return null
	if (a.cut) return null
	let value = a.body
	if (type === 'application/json') {
		try { value = JSON.parse(a.body) } catch (e) { return `no JSON: ${a.body.slice(0, 80)}` }
		if (value.status !== Number(a.status) ) return `status ${value.status} in the body`
	}
	return check(media.schema, value)
}

// The envelope of a request that no operation takes: an unknown path, a wrong method, an id that is none.
function refusal(a, statuses, allow) {
	if (!statuses.includes(Number(a.status))) return `${a.status} instead of ${statuses}`
	if (allow && a.headers.allow === undefined) return '405 without Allow'
	if (a.method === 'HEAD') return null
	let value
	try { value = JSON.parse(a.body) } catch (e) { return `no JSON: ${a.body.slice(0, 80)}` }
	return check(error, value)
}

// What every operation may be answered besides.
const always = { 400: 'Error', 408: 'Error', 413: 'Error', 503: 'Unavailable' }

function answer(a) {
	const type = a.headers['content-type'] ?? ''
	const path = a.path.startsWith(a.base) ? a.path.slice(a.base.length) : a.path
	const p = match(path)
	// The page, files, and what a web server in front says by itself, are not seatcast's.
	if (!p && !/^\/(api\/|healthz$|readyz$|metrics$|status$)/.test(path)) return void result.foreign++
	if ([301, 302, 307, 308].includes(Number(a.status))) return void result.foreign++
	if (/^text\/html/.test(type) && Number(a.status) >= 400 || !type && Number(a.status) >= 400 && !a.body) return void result.foreign++
	if (!p) return refusal(a, [400, 404])
	if (a.method === 'OPTIONS') return null		// CORS, and the web server's own
	const methods = wantedMethods(p.item)
	if (!methods.includes(a.method)) return refusal(a, [400, 405], Number(a.status) === 405)
	if (!p.ids) return refusal(a, [400, 404])
	const operation = p.item[a.method === 'POST' ? 'post' : 'get']
	const response = operation.responses[a.status] ?? api.components.responses[always[a.status]]
	if (!response) return `status ${a.status} is not described`
	result.seen[`${operation.operationId} ${a.status}`] = true
	return headers(response, a.headers) ?? body(response, a)
}

function event(e) {
	const path = e.path.startsWith(e.base) ? e.path.slice(e.base.length) : e.path
	const p = match(path)
	if (!p) return void result.foreign++		// below a prefix
	const schema = p.item.get?.responses['200'].content['text/event-stream']?.['x-events'][e.type]
	if (!schema) return `event ${e.type} is not described`
	result.seen[`${p.item.get.operationId} ${e.type}`] = true
	let value
	try { value = JSON.parse(e.data) } catch (x) { return `no JSON: ${e.data}` }
	return check(schema, value)
}

for (const file of files)
	for (const line of readFileSync(file, 'utf8').split('\n')) {
		if (!line) continue
		let r
		try { r = JSON.parse(line) } catch (e) { continue }		// its process was killed in the middle of it
		if (r.kind === 'count') {
			result.answers += r.answer ?? 0
			result.events += r.event ?? 0
			continue
		}
		if (typeof r.path !== 'string') { result.foreign++; continue }	// a client that reads what another one asked for
		result.distinct++
		r.base ??= ''
		if (r.bytes !== undefined) r[r.kind === 'answer' ? 'body' : 'data'] = Buffer.from(r.bytes, 'base64').toString()
		const wrong = r.kind === 'answer' ? answer(r) : event(r)
		if (wrong && result.faults.length < 50)
			result.faults.push(`${r.test ?? ''} ${r.method ?? 'event'} ${r.path} ${r.status ?? r.type}: ${wrong}`)
	}
const all = []
for (const { item } of paths)
	for (const m of ['get', 'post'])
		if (item[m])
			for (const [status, response] of Object.entries(item[m].responses)) {
				all.push(`${item[m].operationId} ${status}`)
				for (const e of Object.keys(response.content?.['text/event-stream']?.['x-events'] ?? {})) all.push(`${item[m].operationId} ${e}`)
			}
result.described = all
result.paths = paths.map(p => p.pattern)
console.log(JSON.stringify(result))

/* SPDX-License-Identifier: ISC */
/*
 * Why the id at the end is true: cells before `from` were sent as they were at
 * `upto`; those from there on were sent later, at `at` or after it, if they had
 * changed since `known`.  And why nothing comes twice: what changed in the pass's
 * cells up to `at` was in the part that came after it.
 */
#include "base/must.h"
#include "loop/pass.h"

void
pass_begin(struct pass *p, uint64_t upto, uint64_t next)
{
	must(upto > p->known.version && next != VIEW_END);
	p->upto = upto;
	p->from = p->place = next;
	p->at = 0;
}

bool
pass_wants(struct pass *p)
{
	if (p->upto != 0 && p->place == VIEW_END) {
		p->known = (struct view_known){ p->upto, p->from, p->at };
		p->upto = 0;
	}
	return (p->upto != 0);
}

void
pass_gave(struct pass *p, uint64_t now, uint64_t next)
{
	must(p->upto != 0 && p->place != VIEW_END);
	if (p->at == 0)
		p->at = now;
	p->place = next;
}

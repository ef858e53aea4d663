/* SPDX-License-Identifier: ISC */
/*
 * pass - how a viewer that reads slowly gets through its news.
 *
 * A viewer that is in the middle of a frame when the next version comes is taken
 * off it, and goes on part after part, each with the latest state, from the place
 * where it was.  At the end of the pass it has the version of that frame and may
 * have its id; of the cells in the pass it has even a later one, so that none of
 * them comes twice.
 * Runs in: loop.  Pure; allocates nothing.
 */
#ifndef PASS_H
#define PASS_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/view.h"

struct pass {
	struct view_known	 known;	/* what the viewer has */
	uint64_t		 upto;	/* version that the pass completes; 0: it is through */
	uint64_t		 from;	/* the place where it began */
	uint64_t		 place;	/* and where it goes on; VIEW_END: the last part is on its way */
	uint64_t		 at;	/* version of the seats when it began; 0: no part yet */
};

/* Taken off a frame with the news up to that version, of which all before next was sent, and nothing else. */
void	pass_begin(struct pass *p, uint64_t upto, uint64_t next);

/*
 * What was given has been sent.  true: a part from p->place on is next, news to
 * p->known; tell by pass_gave where the one after it begins.  false: the pass is
 * through, and p->known is what the viewer has now.
 */
bool	pass_wants(struct pass *p);
void	pass_gave(struct pass *p, uint64_t now, uint64_t next);	/* now: version of the seats that the part is of */

#endif

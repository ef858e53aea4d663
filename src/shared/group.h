/* SPDX-License-Identifier: ISC */
/*
 * group - which seats a group has, and what of them one viewer is shown.
 *
 * A group is what one loop polls: a block of a match, or a whole match.  A view
 * is what a viewer of a group sees: so a match's loop can show one block in the
 * very bytes that the block's own loop would send.
 * Values only: any process.
 */
#ifndef GROUP_H
#define GROUP_H

#include <stdint.h>
#include <stdio.h>

#define GROUP_WHOLE_MATCH	0	/* as block_id: ids begin with 1 */

struct group_key {
	int64_t	match_id;
	int64_t	block_id;		/* or GROUP_WHOLE_MATCH */
};

/* What processes and the log call it: "1/101", or "1" for a whole match.  Returns out. */
#define GROUP_NAME_BYTES	48
static inline const char *
group_name(char *out, const struct group_key *key)
{
	if (key->block_id == GROUP_WHOLE_MATCH)
		snprintf(out, GROUP_NAME_BYTES, "%lld", (long long)key->match_id);
	else
		snprintf(out, GROUP_NAME_BYTES, "%lld/%lld", (long long)key->match_id, (long long)key->block_id);
	return (out);
}

#define VIEW_MAX_BLOCKS	16		/* SPEC 2a */

enum view_kind {
	VIEW_BLOCK,			/* the seats of blocks[0], as a block's stream shows them (SPEC 2) */
	VIEW_MATCH			/* the counts of all blocks, and the seats of those named (SPEC 2a) */
};

struct view {
	uint8_t	kind;			/* enum view_kind */
	uint8_t	nblocks;
	int64_t	blocks[VIEW_MAX_BLOCKS];	/* ascending, all different; the rest 0, so that equal views are equal bytes */
};

#endif

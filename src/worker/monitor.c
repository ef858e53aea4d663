/* SPDX-License-Identifier: ISC */
/*
 * monitor - what operators and their tools look at: health, readiness, metrics, status.
 * All but /readyz come from the scoreboard alone.
 *
 * /metrics is the Prometheus text exposition format, version 0.0.4.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/mono.h"
#include "base/opts.h"
#include "commit.h"
#include "config.h"
#include "shared/board.h"
#include "shared/group.h"
#include "wire/event.h"
#include "worker/request.h"

#define READY_TIMEOUT_MS	1000
#define NO_STORE		"Cache-Control: no-store\r\n"

/* What a stream needs of the port, asked of a block that is none: ids are from 1 up. */
#define SQL_READY		"SELECT seatcast.block_exists(0, 0) FROM seatcast.snapshot(0, 0), seatcast.changes(0, 0, NULL) LIMIT 1"

void
action_healthz(struct request *rq)
{
	request_answer(rq, 200, "text/plain; charset=utf-8", NO_STORE, "ok", 2);
}

static const struct {
	const char	*sqlstate, *message;
} unready[] = {
	{ "", "the database does not answer" },
	{ "3F000", "the database is not prepared, there is no schema seatcast: run sql/install.sql" },
	{ "42883", "the database is not prepared, a function of the port is missing: run sql/install.sql" },
	{ "42P01", "the functions of the port do not find a table: `seatcast --check` says more" },
	{ "42703", "the functions of the port do not find a column: `seatcast --check` says more" },
	{ "42501", "this role may not use the port: `seatcast --check` says more" },
	{ "57014", "the database took too long" },
};

/* A port of a site's own may say of block 0 that it does not exist (P0002): that is an answer too. */
static void
on_ready(struct db_query *q, const struct db_answer *a)
{
	const char	*why = "the functions of the port fail: `seatcast --check` says more";
	size_t		 i;

	if ((a->result != NULL && PQntuples(a->result) == 1) || strcmp(a->sqlstate, "P0002") == 0) {
		request_answer(q->arg, 200, "text/plain; charset=utf-8", NO_STORE, "ready", 5);
		return;
	}
	for (i = 0; a->result == NULL && i < sizeof(unready) / sizeof(unready[0]); i++)
		if (strcmp(a->sqlstate, unready[i].sqlstate) == 0)
			why = unready[i].message;
	request_error(q->arg, 503, why);
}

void
action_readyz(struct request *rq)
{
	request_query(rq, rq->service->reads, SQL_READY, 0, DB_RETRY | DB_FAIL_FAST, READY_TIMEOUT_MS, on_ready);
}

static void
answer_page(struct request *rq, const char *content_type, struct buf *b)
{
	if (buf_ok(b))
		request_answer(rq, 200, content_type, NO_STORE, b->data, b->len);
	else
		request_out_of_memory(rq);
	buf_fini(b);
}

static const struct {
	enum board_value	 v;
	const char		*name, *why;
} reasons[] = {
#define REFUSAL(NAME, name, why, text)	{ BOARD_refused_##name, #name, why },
#include "shared/refusal_tbl.h"
#undef REFUSAL
};
#define NREASONS	(sizeof(reasons) / sizeof(reasons[0]))

/* --- metrics ------------------------------------------------------------------ */

static void
describe(struct buf *b, const char *name, const char *type, const char *text)
{
	buf_printf(b, "# HELP seatcast_%s %s\n# TYPE seatcast_%s %s\n", name, text, name, type);
}

/* The value of a sample, in the base unit: with as many decimals as the field has. */
static void
value(struct buf *b, enum board_value v, int64_t n)
{
	unsigned per = board_per_unit(v);

	buf_printf(b, " %.*f\n", per == 1 ? 0 : per == 1000 ? 3 : 6, (double)n / per);
}

static bool
is_group(const struct board_slot *s)
{
	return (s->kind == BOARD_LOOP);
}

/* One line per group; the number of groups, and so of labels, is bounded by --max-groups. */
static void
group_gauge(struct buf *b, const struct board *board, enum board_value v)
{
	size_t i;

	describe(b, board_name(v), "gauge", board_text(v));
	for (i = 0; i < board->nslots; i++)
		if (is_group(&board->slot[i])) {
			buf_printf(b, "seatcast_%s{match=\"%lld\",block=\"%lld\"}", board_name(v),
			    (long long)board->slot[i].match_id, (long long)board->slot[i].block_id);
			value(b, v, board_get(&board->slot[i], v));
		}
}

static void
counter(struct buf *b, const struct board *board, enum board_value v)
{
	describe(b, board_name(v), "counter", board_text(v));
	buf_printf(b, "seatcast_%s", board_name(v));
	value(b, v, board_total(board, v));
}

/* One metric with a label, so that a sum over it is all that was refused. */
static void
refused(struct buf *b, const struct board *board)
{
	size_t i;

	describe(b, "refused_total", "counter", "Requests that could not be served for now, by reason.");
	for (i = 0; i < NREASONS; i++)
		buf_printf(b, "seatcast_refused_total{reason=\"%s\"} %lld\n", reasons[i].name,
		    (long long)board_total(board, reasons[i].v));
}

static bool
is_refusal(enum board_value v)
{
	return (v >= reasons[0].v && v <= reasons[NREASONS - 1].v);
}

static double
poll_age_s(const struct board_slot *s)
{
	int64_t at = board_get(s, BOARD_last_poll_mono);

	return ((double)(mono_ms() - (at != 0 ? at : (int64_t)s->born_ms)) / 1000);
}

static void
poll_ages(struct buf *b, const struct board *board)
{
	size_t i;

	describe(b, "last_poll_age_seconds", "gauge", "Seconds since the last good poll of a group.");
	for (i = 0; i < board->nslots; i++)
		if (is_group(&board->slot[i]))
			buf_printf(b, "seatcast_last_poll_age_seconds{match=\"%lld\",block=\"%lld\"} %.3f\n",
			    (long long)board->slot[i].match_id, (long long)board->slot[i].block_id,
			    poll_age_s(&board->slot[i]));
}

static void
histogram(struct buf *b, const char *name, const struct board *board, enum board_histogram h, const char *text)
{
	struct board_durations	 d;
	int64_t			 sum = 0;
	size_t			 i;

	board_total_durations(board, h, &d);
	describe(b, name, "histogram", text);
	for (i = 0; i < BOARD_BUCKETS - 1; i++) {
		sum += d.bucket[i];
		buf_printf(b, "seatcast_%s_bucket{le=\"%g\"} %lld\n", name, board_bucket_ms[i] / 1000., (long long)sum);
	}
	sum += d.bucket[i];
	buf_printf(b, "seatcast_%s_bucket{le=\"+Inf\"} %lld\nseatcast_%s_sum %.6f\nseatcast_%s_count %lld\n",
	    name, (long long)sum, name, (double)d.us / 1e6, name, (long long)sum);
}

static size_t
count_kind(const struct board *board, enum board_kind kind)
{
	size_t i, n = 0;

	for (i = 0; i < board->nslots; i++)
		n += (int)board->slot[i].kind == (int)kind;
	return (n);
}

static void
about_program(struct buf *b, const struct board *board, const struct opts *o)
{
	describe(b, "build_info", "gauge", "1; which version runs.");
	buf_puts(b, "seatcast_build_info{version=\"" PACKAGE_VERSION "\",commit=\"" SEATCAST_COMMIT "\"} 1\n");
	buf_printf(b, "# HELP process_start_time_seconds When the master started, Unix time.\n"
	    "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %.3f\n",
	    (double)board->born_unix_ms / 1000);
	describe(b, "groups", "gauge", "Groups (match and block) with a loop now.");
	buf_printf(b, "seatcast_groups %zu\n", count_kind(board, BOARD_LOOP));
	describe(b, "workers", "gauge", "Workers now.");
	buf_printf(b, "seatcast_workers %zu\n", count_kind(board, BOARD_WORKER));
	describe(b, "max_streams", "gauge", "The limit of streams at once.");
	buf_printf(b, "seatcast_max_streams %ld\n", o->max_streams);
	describe(b, "max_groups", "gauge", "The limit of groups at once.");
	buf_printf(b, "seatcast_max_groups %ld\n", o->max_groups);
	describe(b, "database_away", "gauge", "Connections to the database that are lost now.");
	buf_printf(b, "seatcast_database_away %lld\n", (long long)board_total(board, BOARD_database_away));
}

void
action_metrics(struct request *rq)
{
	const struct board	*board = rq->service->board;
	struct buf		 b = BUF_INIT;
	int			 v;

	about_program(&b, board, rq->service->opts);
	refused(&b, board);
	for (v = 0; v < BOARD__MAX; v++)
		if (is_refusal((enum board_value)v))
			continue;
		else if (board_shape((enum board_value)v) == BOARD_COUNTER)
			counter(&b, board, (enum board_value)v);
		else if (board_shape((enum board_value)v) == BOARD_GAUGE)
			group_gauge(&b, board, (enum board_value)v);
	poll_ages(&b, board);
	histogram(&b, "poll_seconds", board, BOARD_POLL, "Duration of good polls, from sending the query to its answer.");
	histogram(&b, "delay_seconds", board, BOARD_DELAY, "From a change to its sending to the last viewer, at most.");
	answer_page(rq, "text/plain; version=0.0.4; charset=utf-8", &b);
}

/* --- status -------------------------------------------------------------------- */

#define REFRESH	"<meta http-equiv=\"refresh\" content=\"2\">"

static const char status_head[] =
    "<title>seatcast status</title>"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
    "<link rel=\"icon\" href=\"data:,\"><style>"
    ":root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--soft:#555;--line:#8885;--good:#17693f;--bad:#b3261e}"
    "@media(prefers-color-scheme:dark){:root{--ink:#eee;--paper:#161616;--soft:#b5b5b5;--good:#6fd6a4;--bad:#ff8a80}}"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:64rem;margin:1rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}p{margin:.2rem 0 1rem}p.sub,caption,dt{color:var(--soft)}"
    "a{color:inherit}dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem;margin:0}"
    "dl div{border:1px solid var(--line);border-radius:.6rem;padding:.5rem .8rem}"
    "dt{font-size:.85rem}dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums}dd small{font-size:.85rem;color:var(--soft)}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}caption{text-align:left;font-size:.85rem}"
    "th,td{text-align:right;padding:.4rem .5rem;border-bottom:1px solid var(--line)}"
    "th:first-child,td:first-child{text-align:left}th{font-size:.85rem}"
    ".bad{color:var(--bad);font-weight:700}.good{color:var(--good);font-weight:600}"
    "@media(max-width:40rem){.more{display:none}dl{grid-template-columns:1fr 1fr}}"
    "</style></head><body>";

/* 10000 as 10,000. */
static const char *
grouped(int64_t n, char out[32])
{
	char	digits[24];
	size_t	len, i, o = 0;

	len = (size_t)snprintf(digits, sizeof(digits), "%lld", (long long)n);
	for (i = 0; i < len; i++) {
		out[o++] = digits[i];
		if ((len - i) % 3 == 1 && i + 1 < len && digits[i] != '-')
			out[o++] = ',';
	}
	out[o] = '\0';
	return (out);
}

static void
tile(struct buf *b, const char *name, int64_t n, bool bad)
{
	char text[32];

	buf_printf(b, "<div><dt>%s</dt><dd%s>%s</dd></div>", name, bad && n > 0 ? " class=\"bad\"" : "", grouped(n, text));
}

static void
tile_of(struct buf *b, const char *name, int64_t n, int64_t limit)
{
	char text[32], most[32];

	buf_printf(b, "<div><dt>%s</dt><dd%s>%s <small>of %s</small></dd></div>", name, n >= limit ? " class=\"bad\"" : "",
	    grouped(n, text), grouped(limit, most));
}

/* "3 d 4 h", "5 min 6 s": the two largest units. */
static void
duration(struct buf *b, int64_t ms)
{
	static const struct { int64_t ms; const char *name; } units[] = {
		{ 86400000, "d" }, { 3600000, "h" }, { 60000, "min" }, { 1000, "s" }
	};
	size_t i;

	for (i = 0; i < 3 && ms < units[i].ms; i++)
		;
	buf_printf(b, "%lld %s", (long long)(ms / units[i].ms), units[i].name);
	if (i < 3)
		buf_printf(b, " %lld %s", (long long)(ms % units[i].ms / units[i + 1].ms), units[i + 1].name);
}

static void
escaped(struct buf *b, const char *text)
{
	for (; *text != '\0'; text++)
		switch (*text) {
		case '<':	buf_puts(b, "&lt;");	break;
		case '>':	buf_puts(b, "&gt;");	break;
		case '&':	buf_puts(b, "&amp;");	break;
		case '"':	buf_puts(b, "&quot;");	break;
		default:	buf_add(b, text, 1);
		}
}

static int64_t
now_unix_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

/* The one thing to know: does it serve, and if not, why. */
static void
verdict(struct buf *b, const struct board *board, size_t stale)
{
	int64_t away = board_total(board, BOARD_database_away);

	if (board->draining)
		buf_puts(b, "<span class=\"bad\">draining</span>");
	else if (away > 0)
		buf_printf(b, "<span class=\"bad\">the database is away</span> (%lld connections)", (long long)away);
	else if (stale > 0)
		buf_printf(b, "<span class=\"bad\">%zu stale</span>", stale);
	else
		buf_puts(b, "<span class=\"good\">serving</span>");
}

static void
last_said(struct buf *b, const struct board *board)
{
	struct board_said	said;
	char			at[EVENT_TIME_BYTES];

	buf_puts(b, "<h2>Last warning</h2><p>");
	if (board_last_said(board, &said)) {
		event_time_format(at, said.unix_ms);
		buf_printf(b, "<time datetime=\"%s\">%s</time> (", at, at);
		duration(b, now_unix_ms() - said.unix_ms);
		buf_puts(b, " ago): ");
		escaped(b, said.text);
	} else
		buf_puts(b, "None since the start.");
	buf_puts(b, "</p>");
}

static void
refusals(struct buf *b, const struct board *board)
{
	size_t	i;
	bool	any = false;

	buf_puts(b, "<h2>Refused since the start</h2><dl>");
	for (i = 0; i < NREASONS; i++)
		if (board_total(board, reasons[i].v) > 0) {
			tile(b, reasons[i].why, board_total(board, reasons[i].v), true);
			any = true;
		}
	buf_puts(b, any ? "</dl>" : "</dl><p>Nobody.</p>");
}

static void
group_row(struct buf *b, const struct board_slot *s)
{
	char	text[3][32];
	bool	stale = board_get(s, BOARD_stale) != 0;

	buf_printf(b, "<tr><td%s>match %lld, ", stale ? " class=\"bad\"" : "", (long long)s->match_id);
	if (s->block_id == GROUP_WHOLE_MATCH)
		buf_puts(b, "all blocks");
	else
		buf_printf(b, "block %lld", (long long)s->block_id);
	buf_printf(b, "</td><td>%s</td><td class=\"more\">%s</td><td class=\"more\">%s</td><td>%lld</td><td>%.1f s</td>",
	    grouped(board_get(s, BOARD_viewers), text[0]), grouped(board_get(s, BOARD_seats), text[1]),
	    grouped(board_get(s, BOARD_polls), text[2]), (long long)board_get(s, BOARD_behind), (double)board_get(s, BOARD_lag) / 1000);
	if (board_get(s, BOARD_viewers) == 0 && !stale)
		buf_puts(b, "<td>resting</td></tr>");
	else
		buf_printf(b, "<td class=\"%s\">%s%.1f s ago</td></tr>", stale ? "bad" : "good", stale ? "stale, " : "", poll_age_s(s));
}

/* Those that need somebody first: stale ones, then by viewers. */
static int
by_need(const void *x, const void *y)
{
	const struct board_slot	*a = *(const struct board_slot *const *)x, *b = *(const struct board_slot *const *)y;
	int64_t			 stale = board_get(b, BOARD_stale) - board_get(a, BOARD_stale);
	int64_t			 viewers = board_get(b, BOARD_viewers) - board_get(a, BOARD_viewers);

	return (stale != 0 ? (stale > 0) - (stale < 0) : (viewers > 0) - (viewers < 0));
}

static void
group_table(struct buf *b, const struct board_slot **groups, size_t n)
{
	size_t i;

	buf_puts(b, "<h2>Watched now</h2>");
	if (n == 0) {
		buf_puts(b, "<p>No block is watched at the moment.</p>");
		return;
	}
	qsort(groups, n, sizeof(groups[0]), by_need);
	buf_puts(b, "<table><thead><tr><th scope=\"col\">group</th><th scope=\"col\">viewers</th><th scope=\"col\" class=\"more\">seats</th>"
	    "<th scope=\"col\" class=\"more\">polls</th><th scope=\"col\">slow viewers</th><th scope=\"col\">slowest behind</th>"
	    "<th scope=\"col\">last good poll</th></tr></thead><tbody>");
	for (i = 0; i < n; i++)
		group_row(b, groups[i]);
	buf_puts(b, "</tbody></table>");
}

static void
room(struct buf *b, const struct board *board, const struct opts *o, size_t groups)
{
	buf_puts(b, "<dl>");
	tile_of(b, "viewers", board_total(board, BOARD_viewers), o->max_streams);
	tile_of(b, "groups", (int64_t)groups, o->max_groups);
	tile(b, "workers", (int64_t)count_kind(board, BOARD_WORKER), false);
	buf_puts(b, "</dl>");
}

static void
totals(struct buf *b, const struct board *board)
{
	static const struct { const char *name; enum board_value v; bool bad; } rows[] = {
		{ "good polls", BOARD_polls, false },
		{ "failed polls", BOARD_polls_failed, true },
		{ "events sent", BOARD_events, false },
		{ "seats held here", BOARD_seats_held, false },
		{ "seats sold here", BOARD_seats_sold, false },
		{ "conflicts (409)", BOARD_conflicts, false },
		{ "late seats", BOARD_late_seats, true },
		{ "stalled viewers", BOARD_stalls, true },
		{ "database losses", BOARD_database_losses, true },
		{ "database errors", BOARD_database_errors, true },
		{ "workers replaced", BOARD_worker_restarts, true },
		{ "loops crashed", BOARD_loop_crashes, true },
	};
	size_t i;

	buf_puts(b, "<h2>Since the start</h2><dl>");
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		tile(b, rows[i].name, board_total(board, rows[i].v), rows[i].bad);
	buf_puts(b, "</dl>");
}

/* Does not load itself anew: that takes the words out of a screen reader's mouth.  /status?refresh does. */
void
action_status(struct request *rq)
{
	const struct board	 *board = rq->service->board;
	const struct board_slot	**group = calloc(board->nslots, sizeof(*group));
	struct buf		  b = BUF_INIT;
	char			  value[8];
	size_t			  i, n = 0, stale = 0;
	bool			  refresh = route_query(request_param(rq, "QUERY_STRING"), "refresh", value, sizeof(value)) == 0;

	if (group == NULL) {
		request_out_of_memory(rq);
		return;
	}
	for (i = 0; i < board->nslots; i++)
		if (is_group(&board->slot[i])) {
			stale += board_get(&board->slot[i], BOARD_stale) != 0;
			group[n++] = &board->slot[i];
		}
	buf_printf(&b, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">%s%s<h1>seatcast: ", refresh ? REFRESH : "", status_head);
	verdict(&b, board, stale);
	buf_puts(&b, "</h1><p class=\"sub\">version " PACKAGE_VERSION ", up for ");
	duration(&b, now_unix_ms() - board->born_unix_ms);
	buf_puts(&b, refresh ? " &middot; <a href=\"?\">stop loading anew</a></p>" : " &middot; <a href=\"?refresh\">load anew every 2 s</a></p>");
	room(&b, board, rq->service->opts, n);
	group_table(&b, group, n);
	last_said(&b, board);
	refusals(&b, board);
	totals(&b, board);
	buf_puts(&b, "</body></html>\n");
	free(group);
	answer_page(rq, "text/html; charset=utf-8", &b);
}

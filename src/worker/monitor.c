/*
 * monitor - what operators and their tools look at: health, readiness, metrics, status.
 * All but /readyz come from the scoreboard alone.
 *
 * /metrics is the Prometheus text exposition format, version 0.0.4.
 */
#include <stdlib.h>

#include "base/buf.h"
#include "base/mono.h"
#include "config.h"
#include "shared/board.h"
#include "worker/request.h"

#define READY_TIMEOUT_MS	1000
#define NO_STORE		"Cache-Control: no-store\r\n"

void
action_healthz(struct request *rq)
{
	request_answer(rq, 200, "text/plain; charset=utf-8", NO_STORE, "ok", 2);
}

static void
on_ready(struct db_query *q, const struct db_answer *a)
{
	if (a->result != NULL)
		request_answer(q->arg, 200, "text/plain; charset=utf-8", NO_STORE, "ready", 5);
	else
		request_error(q->arg, 503, "the database does not answer");
}

void
action_readyz(struct request *rq)
{
	request_query(rq, "SELECT 1", 0, DB_RETRY | DB_FAIL_FAST, READY_TIMEOUT_MS, on_ready);
}

static void
answer_page(struct request *rq, const char *content_type, struct buf *b)
{
	if (buf_ok(b))
		request_answer(rq, 200, content_type, NO_STORE, b->data, b->len);
	else
		request_error(rq, 503, "out of memory");
	buf_fini(b);
}

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
about_program(struct buf *b, const struct board *board)
{
	describe(b, "build_info", "gauge", "1; which version runs.");
	buf_puts(b, "seatcast_build_info{version=\"" PACKAGE_VERSION "\"} 1\n");
	buf_printf(b, "# HELP process_start_time_seconds When the master started, Unix time.\n"
	    "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %.3f\n",
	    (double)board->born_unix_ms / 1000);
	describe(b, "groups", "gauge", "Groups (match and block) with a loop now.");
	buf_printf(b, "seatcast_groups %zu\n", count_kind(board, BOARD_LOOP));
	describe(b, "workers", "gauge", "Workers now.");
	buf_printf(b, "seatcast_workers %zu\n", count_kind(board, BOARD_WORKER));
}

void
action_metrics(struct request *rq)
{
	const struct board	*board = worker_board(rq->worker);
	struct buf		 b = BUF_INIT;
	int			 v;

	about_program(&b, board);
	for (v = 0; v < BOARD__MAX; v++)
		if (board_shape((enum board_value)v) == BOARD_COUNTER)
			counter(&b, board, (enum board_value)v);
		else if (board_shape((enum board_value)v) == BOARD_GAUGE)
			group_gauge(&b, board, (enum board_value)v);
	poll_ages(&b, board);
	histogram(&b, "poll_seconds", board, BOARD_POLL, "Duration of good polls, from sending the query to its answer.");
	histogram(&b, "delay_seconds", board, BOARD_DELAY, "From a change to its sending to the last viewer, at most.");
	answer_page(rq, "text/plain; version=0.0.4; charset=utf-8", &b);
}

/* --- status -------------------------------------------------------------------- */

static const char status_head[] =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>seatcast status</title>"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
    "<link rel=\"icon\" href=\"data:,\">"
    "<meta http-equiv=\"refresh\" content=\"2\"><style>"
    ":root{color-scheme:light dark;--line:#8883;--good:#2a9d67;--late:#d9822b}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem;margin:0}p.sub{opacity:.7;margin:.2rem 0 1.5rem}"
    "dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));gap:.75rem;margin:0 0 1.5rem}"
    "dl div{border:1px solid var(--line);border-radius:.6rem;padding:.6rem .8rem}"
    "dt{font-size:.8rem;opacity:.7}dd{margin:0;font-size:1.3rem;font-variant-numeric:tabular-nums}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{text-align:right;padding:.4rem .6rem;border-bottom:1px solid var(--line)}"
    "th:first-child,td:first-child{text-align:left}th{font-weight:600;font-size:.85rem}"
    "meter{width:7rem;height:.9rem}.late{color:var(--late);font-weight:600}.good{color:var(--good)}"
    "</style></head><body>";

static void
tile(struct buf *b, const char *name, int64_t value)
{
	buf_printf(b, "<div><dt>%s</dt><dd>%lld</dd></div>", name, (long long)value);
}

static void
group_row(struct buf *b, const struct board_slot *s, int64_t most_viewers)
{
	int64_t	viewers = board_get(s, BOARD_viewers);
	bool	stale = board_get(s, BOARD_stale) != 0, watched = viewers > 0;

	buf_printf(b, "<tr><td>match %lld, block %lld</td><td><meter min=\"0\" max=\"%lld\" value=\"%lld\">%lld</meter></td>"
	    "<td>%lld</td><td>%lld</td><td>%lld</td><td>%lld</td><td>%lld</td><td>%.1f s</td>", (long long)s->match_id, (long long)s->block_id,
	    (long long)(most_viewers > 0 ? most_viewers : 1), (long long)viewers, (long long)viewers,
	    (long long)viewers, (long long)board_get(s, BOARD_seats), (long long)board_get(s, BOARD_version),
	    (long long)board_get(s, BOARD_polls), (long long)board_get(s, BOARD_behind),
	    (double)board_get(s, BOARD_lag) / 1000);
	if (!watched && !stale)
		buf_puts(b, "<td>resting</td></tr>");
	else
		buf_printf(b, "<td class=\"%s\">%.1f s ago%s</td></tr>", stale ? "late" : "good", poll_age_s(s),
		    stale ? ", stale" : "");
}

void
action_status(struct request *rq)
{
	const struct board	*board = worker_board(rq->worker);
	struct buf		 b = BUF_INIT;
	int64_t			 viewers, most = 0;
	size_t			 i, groups = 0;

	viewers = board_total(board, BOARD_viewers);
	for (i = 0; i < board->nslots; i++)
		if (is_group(&board->slot[i])) {
			groups++;
			if (board_get(&board->slot[i], BOARD_viewers) > most)
				most = board_get(&board->slot[i], BOARD_viewers);
		}
	buf_puts(&b, status_head);
	buf_printf(&b, "<h1>seatcast</h1><p class=\"sub\">%s &middot; version " PACKAGE_VERSION "</p><dl>",
	    board->draining ? "<span class=\"late\">draining</span>" : "<span class=\"good\">serving</span>");
	tile(&b, "viewers", viewers);
	tile(&b, "groups", (int64_t)groups);
	tile(&b, "workers", (int64_t)count_kind(board, BOARD_WORKER));
	tile(&b, "good polls", board_total(board, BOARD_polls));
	tile(&b, "events sent", board_total(board, BOARD_events));
	tile(&b, "late seats", board_total(board, BOARD_late_seats));
	tile(&b, "stalled viewers", board_total(board, BOARD_stalls));
	tile(&b, "database losses", board_total(board, BOARD_database_losses));
	tile(&b, "crashes", board_total(board, BOARD_loop_crashes) + board_total(board, BOARD_worker_restarts));
	buf_puts(&b, "</dl><table><thead><tr><th>group</th><th></th><th>viewers</th><th>seats</th><th>version</th>"
	    "<th>polls</th><th>slow viewers</th><th>slowest behind</th><th>last good poll</th></tr></thead><tbody>");
	for (i = 0; i < board->nslots; i++)
		if (is_group(&board->slot[i]))
			group_row(&b, &board->slot[i], most);
	buf_puts(&b, groups == 0 ? "<tr><td colspan=\"9\">No block is watched at the moment.</td></tr>" : "");
	buf_puts(&b, "</tbody></table></body></html>\n");
	answer_page(rq, "text/html; charset=utf-8", &b);
}

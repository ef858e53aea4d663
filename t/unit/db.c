/* SPDX-License-Identifier: ISC */
/*
 * db: libpq against servers of our own on loopback, which answer, hang, cut and
 * refuse as a test says, and name servers likewise; on a clock that the test moves.
 *
 * getaddrinfo is ours: a name is what a test says, and nobody asks for one in the
 * thread of the event loop.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "clock.h"
#include "shared/board.h"
#include "shared/conninfo.h"
#include "shared/db.h"
#include "unit.h"

#define S		INT64_C(1000000)
#define SERVERS		3
#define SESSIONS	8

enum mode {
	GOOD,
	DEAF,		/* accepts, and says nothing */
	CUTS,		/* ends each session at its first byte */
	MUTE,		/* lets in, and answers no query */
	IDLE_ENDS,	/* the next query meets the end of an idle session */
	DIES,		/* the next query meets the end of the server */
	DIES_IN_WORDS,	/* … which says why in the query's own error, with a hint */
	BLAMES,		/* answers with an error */
	NOTICES,	/* answers after a notice */
	REFUSES,	/* lets nobody in */
	SWALLOWS	/* takes a query of any size, a little at a time */
};

struct session {
	struct server	*server;
	ev_io		 io;
	bool		 begun;
	unsigned char	 in[8192];
	size_t		 nin;
};

struct server {
	int		 fd;
	int		 port;
	enum mode	 mode;
	unsigned	 came, queries;		/* sessions begun, queries answered or not */
	ev_io		 io;
	struct session	 session[SESSIONS];
};

static struct server	 server[SERVERS];
static struct board	*board;
static struct board_slot *slot;
static struct db	*db;
static pthread_t	 main_thread;

/* --- name servers ------------------------------------------------------------ */

static struct {
	pthread_mutex_t	 lock;
	pthread_cond_t	 change;
	bool		 silent;
	int		 error;
	const char	*addresses[4];	/* of every name; NULL ends them */
	unsigned	 asked;
} names = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, { NULL }, 0 };

typedef int lookup_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
	union { void *symbol; lookup_fn *call; } libc = { dlsym(RTLD_NEXT, "getaddrinfo") };
	struct addrinfo	  numeric = *hints, **end = list;
	int		  error = 0, i;

	if ((hints->ai_flags & AI_NUMERICHOST) || inet_pton(AF_INET, name, &(struct in_addr){ 0 }) == 1)
		return (libc.call(name, service, hints, list));
	ck_assert_msg(!pthread_equal(pthread_self(), main_thread), "the event loop waits for the address of %s", name);
	numeric.ai_flags |= AI_NUMERICHOST;
	*list = NULL;
	pthread_mutex_lock(&names.lock);
	names.asked++;
	while (names.silent)
		pthread_cond_wait(&names.change, &names.lock);
	error = names.error;
	for (i = 0; error == 0 && names.addresses[i] != NULL; i++) {
		error = libc.call(names.addresses[i], service, &numeric, end);
		while (error == 0 && *end != NULL)
			end = &(*end)->ai_next;
	}
	pthread_mutex_unlock(&names.lock);
	return (error);
}

static void
name_servers(bool silent, int error, const char *a, const char *b)
{
	pthread_mutex_lock(&names.lock);
	names.silent = silent;
	names.error = error;
	names.addresses[0] = a;
	names.addresses[1] = b;
	names.addresses[2] = NULL;
	pthread_cond_broadcast(&names.change);
	pthread_mutex_unlock(&names.lock);
}

static unsigned
times_asked(void)
{
	unsigned n;

	pthread_mutex_lock(&names.lock);
	n = names.asked;
	pthread_mutex_unlock(&names.lock);
	return (n);
}

/* --- servers ------------------------------------------------------------------ */

static void
session_end(struct session *s)
{
	if (s->server == NULL)
		return;
	ev_io_stop(NULL, &s->io);
	fd_close(&s->io.fd);
	s->server = NULL;
}

static void
say(struct session *s, const void *bytes, size_t n)
{
	ck_assert_int_eq(send(s->io.fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

#define SAY(s, text)	say((s), (text), sizeof(text) - 1)
#define READY		"Z\0\0\0\5I"
#define LET_IN		"R\0\0\0\10\0\0\0\0" READY
#define ONE_ROW		"1\0\0\0\4" "2\0\0\0\4" "T\0\0\0\32\0\1n\0\0\0\0\0\0\0\0\0\0\27\0\4\377\377\377\377\0\0" \
			"D\0\0\0\13\0\1\0\0\0\1" "1" "C\0\0\0\15SELECT 1\0" READY
#define IDLE_END	"E\0\0\0\40SFATAL\0VFATAL\0C57P05\0Midle\0\0"
#define DOWN		"E\0\0\0\40SFATAL\0VFATAL\0C57P01\0Mdown\0\0"

/* An ErrorResponse or NoticeResponse; hint may be NULL. */
static void
complain(struct session *s, char type, const char *severity, const char *state, const char *text, const char *hint)
{
	char	 m[512];
	uint32_t n;
	int	 len;

	len = snprintf(m, sizeof(m), "%c....S%s%cV%s%cC%s%cM%s%c%s%s%c", type, severity, 0, severity, 0, state, 0, text, 0,
	    hint != NULL ? "H" : "", hint != NULL ? hint : "", 0);
	if (hint != NULL)
		m[len++] = '\0';
	n = htonl((uint32_t)len - 1);
	memcpy(m + 1, &n, 4);
	say(s, m, (size_t)len);
}

static void
query(struct session *s)
{
	struct server *sv = s->server;

	sv->queries++;
	switch (sv->mode) {
	case MUTE:
		return;
	case IDLE_ENDS:
	case DIES:
		say(s, sv->mode == DIES ? DOWN : IDLE_END, sizeof(DOWN) - 1);
		sv->mode = GOOD;
		session_end(s);
		return;
	case DIES_IN_WORDS:
		complain(s, 'E', "ERROR", "57P01", "going down", "come back");
		sv->mode = GOOD;
		session_end(s);
		return;
	case BLAMES:
		complain(s, 'E', "ERROR", "23505", "no", "do otherwise");
		SAY(s, READY);
		return;
	case NOTICES:
		complain(s, 'N', "NOTICE", "00000", "by the way", NULL);
		SAY(s, ONE_ROW);
		return;
	default:
		SAY(s, ONE_ROW);
	}
}

/* One message off the front.  false: there is none. */
static bool
message(struct session *s)
{
	size_t	 prefix = s->begun ? 1 : 0, len;
	uint32_t n;
	unsigned char type = s->in[0];

	if (s->nin < prefix + 4)
		return (false);
	memcpy(&n, s->in + prefix, 4);
	len = ntohl(n) + prefix;
	if (s->nin < len)
		return (false);
	s->nin -= len;
	memmove(s->in, s->in + len, s->nin);
	if (!s->begun) {
		s->begun = true;
		if (s->server->mode == REFUSES) {
			complain(s, 'E', "FATAL", "28P01", "password authentication failed for user \"u\"", NULL);
			session_end(s);
		} else
			SAY(s, LET_IN);
	} else if (type == 'S')
		query(s);
	else if (type == 'X')
		session_end(s);
	return (s->server != NULL);
}

static void
on_bytes(struct ev_loop *ev, ev_io *w, int revents)
{
	struct session	*s = w->data;
	ssize_t		 n = recv(w->fd, s->in + s->nin, sizeof(s->in) - s->nin, MSG_DONTWAIT);

	(void)ev;
	(void)revents;
	if (n <= 0 || s->server->mode == CUTS) {
		session_end(s);
		return;
	}
	if (s->server->mode == DEAF)
		return;
	s->nin += (size_t)n;
	if (s->server->mode == SWALLOWS && s->begun) {
		if (memcmp(s->in + s->nin - 5, "S\0\0\0\4", 5) == 0) {
			s->server->mode = GOOD;
			query(s);
			s->nin = 0;
		} else if (s->nin > 5) {
			memmove(s->in, s->in + s->nin - 5, 5);
			s->nin = 5;
		}
		return;
	}
	while (message(s))
		;
}

static void
on_connection(struct ev_loop *ev, ev_io *w, int revents)
{
	struct server	*sv = w->data;
	struct session	*s = sv->session;
	int		 fd = accept4(sv->fd, NULL, NULL, SOCK_CLOEXEC);

	(void)ev;
	(void)revents;
	ck_assert_int_ne(fd, -1);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));	/* what is said is there at once */
	while (s->server != NULL)
		ck_assert(++s < sv->session + SESSIONS);
	memset(s, 0, sizeof(*s));
	s->server = sv;
	sv->came++;
	ev_io_init(&s->io, on_bytes, fd, EV_READ);
	s->io.data = s;
	ev_io_start(NULL, &s->io);
}

/* port 0: any. */
static void
serve(struct server *sv, const char *address, int port, enum mode mode)
{
	struct sockaddr_in	sin = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	socklen_t		len = sizeof(sin);
	int			on = 1;

	ck_assert_int_eq(inet_pton(AF_INET, address, &sin.sin_addr), 1);
	ck_assert_int_ne(sv->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), -1);
	setsockopt(sv->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ck_assert_int_eq(bind(sv->fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	ck_assert_int_eq(getsockname(sv->fd, (struct sockaddr *)&sin, &len), 0);
	ck_assert_int_eq(listen(sv->fd, 8), 0);
	sv->port = ntohs(sin.sin_port);
	sv->mode = mode;
	ev_io_init(&sv->io, on_connection, sv->fd, EV_READ);
	sv->io.data = sv;
	ev_io_start(NULL, &sv->io);
}

/* Ends it: who connects is refused. */
static void
stop(struct server *sv)
{
	size_t i;

	if (sv->fd == -1)
		return;
	for (i = 0; i < SESSIONS; i++)
		session_end(&sv->session[i]);
	ev_io_stop(NULL, &sv->io);
	fd_close(&sv->fd);
}

/* --- queries -------------------------------------------------------------------- */

static struct {
	struct db_query	 q;
	unsigned	 answers;
	bool		 good;
	char		 error[256];
	char		 state[16];
} asked;

static void
on_answer(struct db_query *q, const struct db_answer *a)
{
	(void)q;
	asked.answers++;
	asked.good = a->result != NULL && PQntuples(a->result) == 1 && strcmp(PQgetvalue(a->result, 0, 0), "1") == 0;
	snprintf(asked.error, sizeof(asked.error), "%s", a->error != NULL ? a->error : "");
	snprintf(asked.state, sizeof(asked.state), "%s", a->sqlstate);
}

static void
ask(int flags)
{
	ck_assert_ptr_null(asked.q.db);
	memset(&asked, 0, sizeof(asked));
	asked.q.sql = "SELECT 1";
	asked.q.flags = flags;
	asked.q.timeout_ms = 5000;
	asked.q.done = on_answer;
	db_submit(db, &asked.q);
	ck_assert_uint_eq(asked.answers, 0);
}

/* Within so many seconds of the test's clock. */
static void
expect_good(double seconds)
{
	int64_t end = clock_us + (int64_t)(seconds * 1e6);

	while (asked.answers == 0 && clock_us < end)
		clock_run(1000);
	ck_assert_msg(asked.answers == 1 && asked.good, "%u answers: %s", asked.answers, asked.error);
}

/* A lookup is a thread that is going to write to a descriptor that is no socket. */
static bool
lookups_under_way(void)
{
	socklen_t	len = sizeof(int);
	int		type;
	size_t		i;

	for (i = 0; i < CLOCK_FDS; i++)
		if (clock_io[i] != NULL && getsockopt(clock_io[i]->fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
			return (true);
	return (false);
}

/* Threads run on the machine's clock, and not on the test's. */
static void
let_lookups_end(void)
{
	int i;

	for (i = 0; i < 1000 && !names.silent && lookups_under_way(); i++)
		(void)clock_turn(20);
}

static void
begin(const char *conninfo)
{
	char	text[512];
	int	i;

	main_thread = pthread_self();
	log_open(LOG_LEVEL_ERROR, false);
	clock_us = 3600 * S;
	memset(server, 0, sizeof(server));
	for (i = 0; i < SERVERS; i++)
		server[i].fd = -1;
	unsetenv("PGHOST");
	unsetenv("PGPORT");
	unsetenv("PGSERVICE");
	ck_assert_ptr_nonnull(board = board_new(1, NULL));
	ck_assert_ptr_nonnull(slot = board_claim(board, BOARD_WORKER, 0, 0));
	if (conninfo == NULL)
		return;
	serve(&server[0], "127.0.0.1", 0, GOOD);
	snprintf(text, sizeof(text), conninfo, server[0].port);
	ck_assert_ptr_nonnull(db = db_new(NULL, text, slot));
}

/* With servers as they are now. */
static void
connect_to(const char *conninfo)
{
	ck_assert_ptr_nonnull(db = db_new(NULL, conninfo, slot));
}

static void
end(void)
{
	int i;

	name_servers(false, 0, NULL, NULL);
	let_lookups_end();
	db_free(&db);
	for (i = 0; i < SERVERS; i++)
		stop(&server[i]);
}

#define COMMON	"user=u dbname=d sslmode=disable gssencmode=disable "
#define AT(n)	board_get(slot, BOARD_##n)

/* --- the tests -------------------------------------------------------------------- */

START_TEST(a_query_is_answered)
{
	begin(COMMON "host=127.0.0.1 port=%d");
	ask(0);
	expect_good(1);
	ck_assert(db_is_up(db));
	ck_assert_uint_eq(db_generation(db), 1);
	ask(0);
	expect_good(1);
	ck_assert_uint_eq(server[0].came, 1);
	end();
}
END_TEST

START_TEST(in_flight_when_the_connection_ends)
{
	begin(COMMON "host=127.0.0.1 port=%d");
	ask(0);
	expect_good(1);
	server[0].mode = DIES;
	ask(0);
	clock_run(S);
	ck_assert_msg(asked.answers == 1 && !asked.good, "a write is not sent twice");
	ck_assert_str_eq(asked.error, "down");
	clock_run(S);
	server[0].mode = DIES;
	ask(DB_RETRY);
	expect_good(1);
	ck_assert_uint_eq(server[0].queries, 4);
	ck_assert_int_eq(AT(database_losses), 2);
	end();
}
END_TEST

/* What the server says is what the caller is told. */
START_TEST(an_error_is_told_in_the_server_s_words)
{
	begin(COMMON "host=127.0.0.1 port=%d");
	server[0].mode = BLAMES;
	ask(DB_RETRY);
	clock_run(S);
	ck_assert_uint_eq(asked.answers, 1);
	ck_assert_str_eq(asked.error, "no (do otherwise)");
	ck_assert_str_eq(asked.state, "23505");
	ck_assert_uint_eq(server[0].queries, 1);
	server[0].mode = NOTICES;
	ask(0);
	expect_good(0.01);
	ck_assert_int_eq(AT(database_losses), 0);
	server[0].mode = DIES_IN_WORDS;
	ask(0);
	clock_run(S);
	ck_assert_str_eq(asked.error, "going down (come back)");
	ck_assert_int_eq(AT(database_losses), 1);
	end();
}
END_TEST

START_TEST(who_is_refused_is_told_what_mends_it)
{
	struct board_said said;

	begin(COMMON "host=127.0.0.1 port=%d");
	log_open(LOG_LEVEL_WARN, false);
	log_watch(board_say, slot);
	server[0].mode = REFUSES;
	ask(DB_FAIL_FAST);
	clock_run(S);
	ck_assert_uint_eq(asked.answers, 1);
	ck_assert_ptr_nonnull(strstr(asked.error, "password authentication failed"));
	ck_assert(board_last_said(board, &said));
	ck_assert_ptr_nonnull(strstr(said.text, "waiting does not mend that: give the role's password"));
	log_watch(NULL, NULL);
	end();
}
END_TEST

static const struct {
	const char	*error, *advice;	/* how it begins; NULL: waiting may mend it */
} advice[] = {
	{ "FATAL:  no pg_hba.conf entry for host \"::1\"", "add a line" },
	{ "FATAL:  role \"shop\" does not exist", "make the roles" },
	{ "FATAL:  database \"shop\" does not exist", "make it: createdb" },
	{ "FATAL:  role \"shop\" is away", NULL },
	{ "FATAL:  the database system is starting up", NULL },
	{ "fe_sendauth: no password supplied", "the server wants a password" },
};

START_TEST(an_error_that_waiting_does_not_mend_has_advice)
{
	const char *got = conninfo_advice(advice[_i].error);

	ck_assert_msg(advice[_i].advice == NULL ? got == NULL : got != NULL && strncmp(got, advice[_i].advice, strlen(advice[_i].advice)) == 0,
	    "%s: %s", advice[_i].error, got != NULL ? got : "nothing");
}
END_TEST

START_TEST(a_query_waits_for_its_turn)
{
	struct db_query other = { .sql = "SELECT 1", .timeout_ms = 5000, .done = on_answer };
	struct db	*none = NULL;

	begin(COMMON "host=127.0.0.1 port=%d");
	ask(0);
	db_submit(db, &other);		/* before there is a connection */
	ck_assert_uint_eq(db_waiting(db), 2);
	clock_run(S);
	ck_assert(asked.answers == 2 && asked.good);
	server[0].mode = MUTE;
	ask(0);
	db_submit(db, &other);
	ck_assert_uint_eq(db_waiting(db), 2);
	clock_run(S / 10);
	ck_assert_msg(!db_is_waiting(&asked.q) && db_is_waiting(&other), "one is with the server, one is not");
	db_cancel(&other);
	db_cancel(&other);		/* once more does nothing */
	ck_assert(!db_is_waiting(&other));
	ck_assert_uint_eq(db_waiting(db), 1);
	clock_run(S / 10);
	ck_assert_uint_eq(asked.answers, 0);
	ck_assert_uint_eq(server[0].queries, 3);
	db_free(&none);
	end();
	ck_assert_msg(asked.answers == 0 && asked.q.db == NULL, "what is in flight at the end is forgotten");
}
END_TEST

/* What libpq does not send, and what can't be watched, costs the connection, and not its user. */
START_TEST(a_connection_of_no_use_is_replaced)
{
	size_t i;

	begin(COMMON "host=127.0.0.1 port=%d");
	for (i = 0; i < 2; i++) {		/* while it connects, and when it is idle */
		memset(&asked, 0, sizeof(asked));
		asked.q = (struct db_query){ .timeout_ms = 5000, .done = on_answer };
		db_submit(db, &asked.q);
		clock_run(S);
		ck_assert_uint_eq(asked.answers, 1);
		ck_assert(!asked.good);
		clock_run(4 * S);
	}
	ck_assert_uint_eq(server[0].queries, 0);
	ask(0);
	expect_good(1);
	for (i = 0; i < CLOCK_FDS; i++)
		if (clock_io[i] != NULL && clock_io[i]->cb != on_bytes && clock_io[i]->cb != on_connection) {
			clock_io[i]->cb(NULL, clock_io[i], EV_ERROR);
			break;
		}
	ck_assert_uint_lt(i, CLOCK_FDS);
	ck_assert(!db_is_up(db));
	ask(DB_RETRY);
	expect_good(4);
	end();
}
END_TEST

/* More than a socket takes at once; and the server's end in the middle of it. */
START_TEST(a_query_of_any_size)
{
	static char	big[8 << 20];
	int		i;

	begin(COMMON "host=127.0.0.1 port=%d");
	ask(0);
	expect_good(1);
	memset(big, 'x', sizeof(big) - 1);
	for (i = 0; i < 2; i++) {
		server[0].mode = i == 0 ? SWALLOWS : CUTS;
		ck_assert_ptr_null(asked.q.db);
		memset(&asked, 0, sizeof(asked));
		asked.q = (struct db_query){ .sql = "SELECT $1", .params = { big }, .nparams = 1, .timeout_ms = 60000, .done = on_answer };
		db_submit(db, &asked.q);
		while (asked.answers == 0 && clock_us < (3600 + 50) * S)
			clock_run(1000);
		ck_assert_uint_eq(asked.answers, 1);
		ck_assert_msg(asked.good == (i == 0), "%s", asked.error);
	}
	end();
}
END_TEST

START_TEST(an_idle_session_that_ends_is_no_loss)
{
	size_t i;

	begin(COMMON "host=127.0.0.1 port=%d");
	ask(0);
	expect_good(1);
	for (i = 0; i < SESSIONS; i++)
		if (server[0].session[i].server != NULL) {
			SAY(&server[0].session[i], IDLE_END);
			session_end(&server[0].session[i]);
		}
	clock_run(60 * S);
	ck_assert_uint_eq(server[0].came, 1);		/* it rests */
	ck_assert_int_eq(AT(database_losses), 0);
	ask(DB_FAIL_FAST);
	expect_good(0.01);
	/* the end meets a query: it was not read, so even a write is safe */
	server[0].mode = IDLE_ENDS;
	ask(0);
	expect_good(0.01);
	ck_assert_int_eq(AT(database_losses), 0);
	ck_assert_uint_eq(server[0].came, 3);
	end();
}
END_TEST

START_TEST(a_cancelled_query_leaves_its_answer_to_nobody)
{
	begin(COMMON "host=127.0.0.1 port=%d");
	ask(0);
	expect_good(1);
	server[0].mode = MUTE;
	ask(0);
	clock_run(S / 10);
	db_cancel(&asked.q);
	ask(0);			/* waits for the answer to the other one */
	clock_run(S / 10);
	ck_assert_uint_eq(server[0].queries, 2);
	server[0].mode = GOOD;
	query(server[0].session);
	expect_good(1);
	ck_assert_uint_eq(server[0].queries, 4);
	ck_assert_int_eq(AT(database_losses), 0);
	end();
}
END_TEST

START_TEST(an_answer_for_nobody_is_not_waited_for)
{
	begin(COMMON "host=127.0.0.1 port=%d");
	ask(0);
	expect_good(1);
	server[0].mode = MUTE;
	ask(0);
	clock_run(S / 10);
	db_cancel(&asked.q);
	server[0].mode = GOOD;
	clock_run(4 * S);
	ask(0);
	clock_run(S / 2);
	ck_assert_uint_eq(asked.answers, 0);
	expect_good(1);
	ck_assert_int_eq(AT(database_losses), 1);
	end();
}
END_TEST

START_TEST(pauses_grow_and_one_loss_is_one)
{
	int64_t	 pause[12], began;
	unsigned i;

	begin(COMMON "host=127.0.0.1 port=%d");
	server[0].mode = CUTS;
	db_open(db);
	clock_run(0);
	for (i = 0; i < nitems(pause); i++) {
		began = clock_us;
		while (server[0].came < i + 2)
			clock_run(1000);
		pause[i] = clock_us - began;
	}
	ck_assert_int_le(pause[0], S / 10 + 2000);
	for (i = 0; i < nitems(pause); i++) {
		int64_t whole = S / 10 << i < 3 * S ? S / 10 << i : 3 * S;

		ck_assert_int_ge(pause[i], whole / 2 - 2000);
		ck_assert_int_le(pause[i], whole + 2000);
	}
	ck_assert_int_eq(AT(database_losses), 1);
	/* back, and proved: the ladder begins anew */
	server[0].mode = GOOD;
	clock_run(4 * S);
	ck_assert(db_is_up(db));
	server[0].mode = DIES;
	ask(0);
	clock_run(S / 5);
	ck_assert_uint_eq(asked.answers, 1);
	ck_assert(db_is_up(db));
	ck_assert_int_eq(AT(database_losses), 2);
	end();
}
END_TEST

START_TEST(a_deaf_host_is_got_past)
{
	static const char *const from[] = { "the connection string", "PGHOST", "a service file", "a name" };
	char	text[512], path[] = "/tmp/unit-db-XXXXXX";
	FILE	*f;
	int	fd;

	begin(NULL);
	serve(&server[0], "127.0.0.2", 0, DEAF);
	serve(&server[1], "127.0.0.3", server[0].port, GOOD);
	snprintf(text, sizeof(text), "%d", server[0].port);
	setenv("PGPORT", text, 1);
	switch (_i) {
	case 0:
		connect_to(COMMON "host=127.0.0.2,127.0.0.3");
		break;
	case 1:
		setenv("PGHOST", "127.0.0.2,127.0.0.3", 1);
		connect_to(COMMON);
		break;
	case 2:
		ck_assert_int_ne(fd = mkstemp(path), -1);
		ck_assert_ptr_nonnull(f = fdopen(fd, "w"));
		fprintf(f, "[seats]\nhost=127.0.0.2,127.0.0.3\nport=%d\n", server[0].port);
		fclose(f);
		setenv("PGSERVICEFILE", path, 1);
		unsetenv("PGPORT");
		connect_to(COMMON "service=seats");
		break;
	default:
		name_servers(false, 0, "127.0.0.2", "127.0.0.3");
		connect_to(COMMON "host=db.example");
		db_open(db);
		clock_run(0);
		let_lookups_end();
		break;
	}
	db_open(db);
	clock_run(0);
	clock_run(3 * S);
	let_lookups_end();
	ck_assert_uint_eq(server[1].came, 0);
	clock_run(S / 10);
	let_lookups_end();
	clock_run(S / 10);
	ck_assert_msg(db_is_up(db), "hosts from %s: a deaf one holds us", from[_i]);
	ck_assert_uint_eq(server[1].came, 1);
	if (_i == 2)
		unlink(path);
	unsetenv("PGSERVICEFILE");
	end();
}
END_TEST

START_TEST(a_silent_name_server_holds_nobody)
{
	name_servers(true, 0, "127.0.0.1", NULL);
	names.asked = 0;
	begin(COMMON "host=db.example port=%d");
	ask(DB_RETRY);
	clock_run(4 * S);
	ck_assert_uint_eq(asked.answers, 0);
	clock_run(1 * S);
	ck_assert_uint_eq(asked.answers, 1);
	ck_assert(!asked.good);
	ck_assert_int_eq(AT(database_losses), 1);
	clock_run(60 * S);
	ck_assert_msg(times_asked() <= 1, "%u threads wait for one name", times_asked());
	ask(DB_FAIL_FAST);
	clock_run(0);
	ck_assert_uint_eq(asked.answers, 1);
	ck_assert_str_eq(asked.error, "the database is away");
	name_servers(false, 0, "127.0.0.1", NULL);
	let_lookups_end();
	ask(DB_RETRY);
	for (int i = 0; i < 40 && asked.answers == 0; i++) {
		clock_run(S / 10);
		let_lookups_end();
	}
	ck_assert_msg(asked.good, "%s", asked.error);
	end();
}
END_TEST

/* What name servers do once they have answered, and whether that answer counts still. */
static const struct {
	const char	*says;
	bool		 silent;
	int		 error;
	bool		 counts;
} later[] = {
	{ "silence", true, 0, true },
	{ "try again", false, EAI_AGAIN, true },
	{ "failure", false, EAI_FAIL, true },
	{ "no such name", false, EAI_NONAME, false },
};

START_TEST(the_last_good_answer_counts)
{
	name_servers(false, 0, "127.0.0.1", NULL);
	begin(COMMON "host=db.example port=%d");
	ask(0);
	clock_run(0);
	let_lookups_end();
	expect_good(1);
	clock_run(S);
	name_servers(later[_i].silent, later[_i].error, NULL, NULL);
	server[0].mode = DIES;
	ask(DB_RETRY);
	for (int i = 0; i < 15; i++) {
		clock_run(S / 10);
		let_lookups_end();
	}
	ck_assert_msg((asked.answers == 1 && asked.good) == later[_i].counts, "%s: %s", later[_i].says, asked.error);
	end();
}
END_TEST

static const struct {
	const char	*conninfo, *variable;
	bool		 has;
} passwords[] = {
	{ NULL, NULL, false }, { NULL, "", false }, { NULL, "secret", true }, { "host=h user=u", NULL, false },
	{ "host=h password=secret", NULL, true }, { "password=''", NULL, false }, { "sslpassword=secret", NULL, true },
	{ "postgresql://u:secret@h/d", NULL, true }, { "postgresql://u@h/d", NULL, false }, { "host", NULL, false },
};

START_TEST(a_password_is_seen)
{
	if (passwords[_i].variable != NULL)
		setenv("PGPASSWORD", passwords[_i].variable, 1);
	else
		unsetenv("PGPASSWORD");
	ck_assert_int_eq(conninfo_has_password(passwords[_i].conninfo), passwords[_i].has);
	unsetenv("PGPASSWORD");
}
END_TEST

/* What libpq says about a configuration reaches whoever asks. */
static const struct {
	const char	*conninfo, *error;
	bool		 ok;		/* as far as reading it goes */
} odd[] = {
	{ "host", "missing \"=\"", false },
	{ COMMON "host=127.0.0.1,127.0.0.2 port=1,2,3", "could not match 3 port numbers to 2 hosts", true },
	{ COMMON "host=a,b hostaddr=127.0.0.1", "could not match", true },
	{ COMMON "host=db.example", "db.example: Name or service not known", true },
	{ COMMON "host=/nowhere port=1", "/nowhere", true },
	{ COMMON "hostaddr=127.0.0.1,127.0.0.1 port=1", "127.0.0.1", true },
	{ "service=seatcast-nobody", "seatcast-nobody", true },
	{ "postgresql://u:p@ss@127.0.0.1/d", "", false },
	{ "postgresql://u:p/ss@127.0.0.1/d", "", false },
	{ "postgresql://u@127.0.0.1:54x2/d", "", false },
};

START_TEST(an_odd_configuration_is_told)
{
	begin(NULL);
	ck_assert_msg(conninfo_ok(odd[_i].conninfo) == odd[_i].ok, "%s", odd[_i].conninfo);
	if (odd[_i].error[0] == '\0')
		return;
	name_servers(false, 0, NULL, NULL);
	connect_to(odd[_i].conninfo);
	ask(DB_FAIL_FAST);
	for (int i = 0; i < 50 && asked.answers == 0; i++) {
		clock_run(S / 100);
		let_lookups_end();
	}
	ck_assert_uint_eq(asked.answers, 1);
	ck_assert_msg(!asked.good && strstr(asked.error, odd[_i].error) != NULL, "%s: %s", odd[_i].conninfo, asked.error);
	end();
}
END_TEST

/* A query is answered once, whatever the server does. */
START_TEST(every_query_is_answered_once)
{
	static const enum mode	modes[] = { GOOD, GOOD, GOOD, CUTS, MUTE, IDLE_ENDS, DIES, DEAF };
	uint64_t		random = unit_seed(_i);
	int			i, round;

	begin(COMMON "host=127.0.0.1 port=%d");
	for (round = 0; round < 60; round++) {
		server[0].mode = modes[unit_random(&random, nitems(modes))];
		ask((int)unit_random(&random, 4));
		clock_run((int64_t)unit_random(&random, 3000) * 1000);
		if (unit_random(&random, 8) == 0 && asked.answers == 0) {
			db_cancel(&asked.q);
			clock_run(S);
			ck_assert_uint_eq(asked.answers, 0);
			continue;
		}
		for (i = 0; i < 60 && asked.answers == 0; i++)
			clock_run(S / 10);
		ck_assert_uint_eq(asked.answers, 1);
	}
	server[0].mode = GOOD;
	clock_run(10 * S);
	ask(DB_RETRY);
	expect_good(4);
	end();
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("db");
	TCase	*tc = unit_case(s, "db");

	tcase_add_test(tc, a_query_is_answered);
	tcase_add_test(tc, in_flight_when_the_connection_ends);
	tcase_add_test(tc, an_error_is_told_in_the_server_s_words);
	tcase_add_test(tc, who_is_refused_is_told_what_mends_it);
	unit_rows(tc, an_error_that_waiting_does_not_mend_has_advice, advice);
	tcase_add_test(tc, a_query_waits_for_its_turn);
	tcase_add_test(tc, a_query_of_any_size);
	tcase_add_test(tc, a_connection_of_no_use_is_replaced);
	tcase_add_test(tc, an_idle_session_that_ends_is_no_loss);
	tcase_add_test(tc, a_cancelled_query_leaves_its_answer_to_nobody);
	tcase_add_test(tc, an_answer_for_nobody_is_not_waited_for);
	tcase_add_test(tc, pauses_grow_and_one_loss_is_one);
	tcase_add_loop_test(tc, every_query_is_answered_once, 0, 10);
	tc = unit_case(s, "hosts");
	tcase_add_loop_test(tc, a_deaf_host_is_got_past, 0, 4);
	tcase_add_test(tc, a_silent_name_server_holds_nobody);
	unit_rows(tc, the_last_good_answer_counts, later);
	unit_rows(tc, an_odd_configuration_is_told, odd);
	unit_rows(tc, a_password_is_seen, passwords);
	return (unit_main(s));
}

#!/usr/bin/env perl
# --user-param: the web server says who is logged in.  The body's userId may be missing then, a different one is 403, nobody is
# 401; and a browser that says that another site's page asks is 403.  Without the option the body is believed.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use FastCGI;

my $s = Scenario->new(seats => 20, lighttpd => 0, user_param => 'REMOTE_USER');
my $seats = '/api/matches/1/allocation/seats';
sub post {
	my ($what, $user, $body, @more) = @_;
	my $path = "$seats/$what";
	return $s->fcgi->request(body => $body, env => [@{fcgi_env('POST', $path, [], $body)}, defined $user ? (REMOTE_USER => $user) : (), @more])->answer;
}
sub row { my ($seat) = @_; my ($r) = $s->sql("SELECT concat_ws(' ', status, user_id) FROM allocations WHERE match_id = 1 AND seat_id = $seat"); return $r && $r->[0] }

is(post('101/hold', 7, '{}')->{status}, 200, 'hold without userId');
is(row(101), 'HOLD 7', '… is for who is logged in');
is(post('102/hold', 7, '')->{status}, 200, '… without any body');
is(post('103/hold', 7, '{"userId":7}')->{status}, 200, '… with the same userId');
is(post('104/hold', 7, '{"userId":8}')->{status}, 403, 'another userId is 403');
is(post('105/hold', $_, '{"userId":7}')->{status}, 401, 'nobody known (' . ($_ // 'none') . ') is 401') for undef, '', 'alice', '0', '-7', '07', '7 ', '9223372036854775808';
is(post('hold', 7, '{"seatIds":[106,107]}')->{status}, 200, 'several, without userId');
is(post('hold', 7, '{"userId":8,"seatIds":[108]}')->{status}, 403, '… with another');
is(post('hold', undef, '{"userId":7,"seatIds":[108]}')->{status}, 401, '… nobody');
is(post('hold', 7, '')->{status}, 400, '… no seats');
is(post('hold', 7, '{"seatIds":[108],"userId":"7"}')->{status}, 400, '… a malformed userId');
is(post('confirm', 8, '{"seatIds":[106]}')->{status}, 409, "confirmation of another's seat");
is(post('confirm', 7, '{"seatIds":[106]}')->{status}, 200, '… and of their own');
is(post('107/release', 8, '{}')->{status}, 409, "release of another's seat");
is(post('release', 7, '{"seatIds":[107]}')->{status}, 204, '… and of their own');
is(row(104) // '', '', 'nothing was held for anybody else');

# A page of another site: fetch() can send this without a preflight, and the browser adds the cookie.
is(post('110/hold', 7, '', HTTP_SEC_FETCH_SITE => 'cross-site')->{status}, 403, "another site's page");
is(post('110/hold', 7, '', HTTP_SEC_FETCH_SITE => $_)->{status}, 200, $_) for qw(same-origin same-site none);
my $envelope = post('104/hold', 7, '{"userId":8}')->{body};
like($envelope, qr/\A\{"status":403,"message":"[^"]+"\}\z/, 'the envelope');

$s->restart_seatcast('TERM', user_param => undef);
is(post('111/hold', 7, '{"userId":8}')->{status}, 200, 'without --user-param the body is believed');
is(row(111), 'HOLD 8', '… and nobody else');
is(post('112/hold', 7, '{}')->{status}, 400, '… which has to say who');
is(post('112/hold', 7, '')->{status}, 400, '… and be there');
$s->done;

#!/usr/bin/env perl
# --base-path: a site mounts it below a path of its own; what the web server calls SCRIPT_NAME and PATH_INFO does not matter.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 5, lighttpd => 0, base_path => '/tickets');
sub status { my (@env) = @_; return $s->fcgi->request(env => [REQUEST_METHOD => 'GET', @env])->answer->{status} }
my $seats = $s->snapshot_path(1, 101);

for my $path ($seats, '/healthz', '/api/site/areas', '/metrics') {
	is(status(SCRIPT_NAME => "/tickets$path"), 200, "SCRIPT_NAME /tickets$path");
	is(status(SCRIPT_NAME => '/tickets', PATH_INFO => $path), 200, '… SCRIPT_NAME and PATH_INFO');
	is(status(SCRIPT_NAME => '', PATH_INFO => "/tickets$path"), 200, '… PATH_INFO alone');
	is(status(REQUEST_URI => "/tickets$path?x=1"), 200, '… REQUEST_URI alone');
	is(status(SCRIPT_NAME => $path), 200, '… taken away by the web server already');
}
is(status(SCRIPT_NAME => $_), 404, "$_ is nothing") for "/ticketsx$seats", "/tickets/tickets$seats", "/x/tickets$seats", '/tickets', '/tickets/', "/Tickets$seats", "/tickets/$seats";
$s->client('fan')->get('/tickets' . $s->stream_path(1, 101))->expect_event('init')->close;
$s->restart_seatcast('TERM', base_path => '/a/b/');
is(status(SCRIPT_NAME => "/a/b$seats"), 200, 'a slash behind it counts for nothing');
is(status(SCRIPT_NAME => "/a$seats"), 404, '… half of it is another path');
$s->restart_seatcast('TERM', base_path => undef);
is(status(SCRIPT_NAME => "/tickets$seats"), 404, 'without the option there is no such path');
is(status(SCRIPT_NAME => '/x', PATH_INFO => '/metrics'), 404, '… and PATH_INFO alone is not looked at: servers split where they like');
$s->done;

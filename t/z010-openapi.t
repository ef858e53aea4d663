#!/usr/bin/env perl
# doc/openapi.yaml is right, and is what seatcast does: every answer and event that the tests have seen (this one alone, or all of a run of
# quickstart) fits it, each route of the program is in it, and its page is made of it as it is.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Answers; use File::Glob ':bsd_glob'; use File::Temp qw(tempdir); use JSON::PP;

my $src = $ENV{top_srcdir} // "$FindBin::Bin/..";
my $modules = $ENV{SEATCAST_NODE_MODULES} // ($ENV{top_builddir} // "$src/build") . '/browser/node_modules';
plan(skip_all => 'node is not installed') if !grep { -x "$_/node" } split /:/, $ENV{PATH};
plan(skip_all => "\@readme/openapi-parser and ajv are not in $modules (quickstart check puts them there)") if !-d "$modules/\@readme/openapi-parser" || !-d "$modules/ajv" || !-d "$modules/js-yaml";

my $own = tempdir(CLEANUP => 1);
my @earlier = $ENV{SEATCAST_ANSWERS} ? glob "$ENV{SEATCAST_ANSWERS}/*.jsonl" : ();
Answers::to($own);

# ---- answers of our own, of all kinds ----

my $s = Scenario->new(seats => 6, lighttpd => 0, heartbeat => '300ms', hold_duration => '10m');
my %routes = map { $_ => 1 } map { /^\t\{ "(\/[^"]+)"/mg } grep { defined } map { Stage::slurp($_) } "$src/src/worker/route.c", glob "$src/src/worker/route_tbl.h";
sub ask {
	my ($method, $path, $body, %headers) = @_;
	$headers{'Content-Type'} //= 'application/json' if defined $body;
	return $s->fcgi->request(method => $method, path => $path, body => $body, headers => \%headers)->answer;
}
my $b = '/api/matches/1/blocks/101';
my $etag = ask(GET => "$b/seats")->{headers}{etag};
ask(GET => "$b/seats", undef, 'If-None-Match' => $etag) if $etag;
ask($_ => "/api/site/areas") for qw(GET HEAD POST PUT);
ask(GET => $_) for '/api/site/areas/1/sections', '/api/site/areas/9/sections', '/api/site/areas/0/sections', '/api/site/sections/1/blocks', '/api/site/sections/9/blocks',
	'/api/site/blocks/101/seats', '/api/site/blocks/9/seats', '/api/site/stadium', '/api/matches', '/api/matches/1/blocks', '/api/matches/9/blocks', "$b/seats/changes?since=", '/healthz', '/readyz',
	'/metrics', '/status', '/status?refresh', '/api/nothing', '/api/matches/1/blocks/9/seats', '/api/matches/01/blocks/101/seats', '/api/matches/9/status-stream', '/api/matches/1/status-stream?blocks=x';
my $seats = '/api/matches/1/allocation/seats';
ask(POST => @$_) for ["$seats/101/hold", '{"userId":7}'], ["$seats/101/hold", '{"userId":8}'], ["$seats/101/hold", '{"userId":'], ["$seats/999/hold", '{"userId":7}'], ["$seats/101/release", '{"userId":8}'],
	["$seats/101/release", '{"userId":7}'], ["$seats/102/hold", '{"userId":7}'], ["$seats/confirm", '{"userId":7,"seatIds":[102,103]}'], ["$seats/confirm", '{"userId":7,"seatIds":[102]}'],
	["$seats/confirm", '{"userId":7,"seatIds":[]}'], ["$seats/hold", '{"userId":7,"seatIds":[104,105]}'], ["$seats/hold", '{"userId":8,"seatIds":[102,104]}'], ["$seats/release", '{"userId":7,"seatIds":[104,105]}'],
	["$b/seats/changed"], ["$seats/101/hold", '{"userId":7,"x":"' . 'y' x 17000 . '"}'];
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
my $all = $s->client('all')->get('/api/matches/1/status-stream?blocks=101', Accept => 'text/event-stream')->expect_event('init');
$s->sql("SELECT seatcast.hold(1, 106, 9, '5 minutes')");
$fan->expect_event('update', seatId => 106)->expect_event('beat');
$all->expect_event('update', seatId => 106)->expect_event('count')->expect_event('beat');
$s->pg_stop('fast');
$fan->expect_event('stale', within => 10);
ask(GET => '/api/site/areas');
ask(GET => '/readyz');
$s->{stage}->pg_start;
$fan->expect_event('fresh', within => 20);
$_->close for $fan, $all;

# ---- what they are held against ----

sub node { my (@command) = @_; open my $out, '-|', 'node', @command or die "node: $!"; local $/; my $text = readline($out) // ''; close $out; return $text }
sub validated { my ($spec, @files) = @_; return decode_json(node("$src/t/openapi/validate.mjs", $modules, $spec, @files)) }
Answers::to(undef);
my $mine = validated("$src/doc/openapi.yaml", glob "$own/*.jsonl");
is(join("\n", @{$mine->{faults}}), '', 'answers and events are as described');
cmp_ok($mine->{distinct}, '>', 40, "$mine->{distinct} different ones");

# It would be seen: an answer with one field more, an event of a new type, a header that is missing.
open my $wrong, '>', "$own/wrong.jsonl" or die;
print $wrong encode_json($_), "\n" for
	{ kind => 'answer', method => 'GET', path => '/api/site/areas', status => 200, headers => { 'content-type' => 'application/json' }, body => '{"status":200,"data":{"areas":[{"id":1,"name":"x","color":"red"}]}}' },
	{ kind => 'answer', method => 'GET', path => "$b/seats", status => 200, headers => { 'content-type' => 'application/json' }, body => '{"status":200,"data":{"seats":[]}}' },
	{ kind => 'answer', method => 'GET', path => '/api/site/areas', status => 418, headers => { 'content-type' => 'application/json' }, body => '{"status":418,"message":"x"}' },
	{ kind => 'event', path => "$b/seats/status-stream", type => 'update', data => '{"status":200,"data":{"seatId":0,"status":"HOLD"}}' },
	{ kind => 'event', path => "$b/seats/status-stream", type => 'news', data => '{}' };
close $wrong;
is(scalar @{validated("$src/doc/openapi.yaml", "$own/wrong.jsonl")->{faults}}, 5, 'five that are wrong are found');

my %described = map { s/\{\w+\}/#/gr => 1 } @{$mine->{paths}};
is(join(' ', grep { !$described{$_} } sort keys %routes), '', 'every route is described');
is(join(' ', grep { !$routes{$_} } sort keys %described), '', 'and nothing else');

if (@earlier) {
	my $theirs = validated("$src/doc/openapi.yaml", @earlier);
	is(join("\n", @{$theirs->{faults}}), '', 'so are those that all other tests have seen');
	my %seen = (%{$theirs->{seen}}, %{$mine->{seen}});
	my @never = grep { !$seen{$_} } @{$theirs->{described}};
	diag("$theirs->{answers} answers and $theirs->{events} events, $theirs->{distinct} of them different; $theirs->{foreign} of web servers themselves; "
	    . scalar(keys %seen) . ' of ' . @{$theirs->{described}} . ' kinds seen' . (@never ? ", not: @never" : ''));
}
is(node("$src/t/openapi/page.mjs", $modules, "$src/doc/openapi.yaml"), Stage::slurp("$src/doc/openapi.html"), 'doc/openapi.html is made of it');
my ($version) = Stage::slurp("$src/configure.ac") =~ /AC_INIT\(\[seatcast\], \[([^\]]+)\]/;
like(Stage::slurp("$src/doc/openapi.yaml"), qr/^  version: \Q$version\E$/m, 'of the version that this is');
$s->done;

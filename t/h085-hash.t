#!/usr/bin/env perl
# Two hosts behind HAProxy, which sends a block to one of them by a hash of the path, as doc/scaling.md proposes for many hosts: a block is polled
# by one host and not by both; when a host dies its blocks go to the other one and no other block moves; when it is back, so are they.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

plan skip_all => 'haproxy is not installed' if !have('haproxy');
my $s = Scenario->new(seats => 4);
my @block = (101, map { 200 + $_ } 1 .. 15);
$s->sql(join '; ', map { ("INSERT INTO blocks (id, section_id, name) VALUES ($_, 1, '$_')", "INSERT INTO seats (id, block_id, row_number, seat_number) VALUES ($_ * 1000, $_, 1, 1)") } @block[1 .. $#block]);
my $one = $s->{stage};
my $two = Stage->new;
@$two{qw(pg_port tick)} = ($one->{pg_port}, $one->{tick});
my @options = (database => $s->pg_conninfo(user => 'seatcast_writer'), workers => 2, poll_interval => '200ms', drain_timeout => '1s');
$two->start_seatcast(@options)->start_lighttpd;
my $sample = Stage::slurp("$one->{src}/etc/haproxy.cfg");
my ($hash) = $sample =~ /^((?:\t#\t\S[^\n]*\n)+)/m;
like($hash, qr/balance uri path-only.*hash-type consistent.*hash-balance-factor 150/s, 'the sample has the lines');
$one->{port} = start_haproxy($one, $one->{port}, $two->{port}, { 'balance leastconn' => join "\n", map { s/^\t#\t/\t/r } split /\n/, $hash });

# Which blocks a host has viewers of, and how many.
sub at {
	my ($stage) = @_;
	my $c = FastCGI->connect($stage->{listen}, try => 1) or return {};
	return { ($c->request(path => '/metrics')->answer->{body} // '') =~ /^seatcast_viewers\{match="1",block="(\d+)"\} ([1-9]\d*)$/mg };
}
$s->expect('both hosts are up', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 && keys %{at($one)} == 0 }, 10);
my @fan = map { my $block = $_; map { $s->client("$block $_")->watch(1, $block) } 1 .. 3 } @block;
ok($s->wait_for(sub { !grep { !$_->events('init') } @fan }, 15), @fan . ' viewers of ' . @block . ' blocks');
my ($at_a, $at_b) = (at($one), at($two));
my @both = grep { $at_a->{$_} && $at_b->{$_} } @block;
cmp_ok(scalar @both, '<=', 2, 'a block is at one host: ' . keys(%$at_a) . ' at one, ' . keys(%$at_b) . ' at the other, ' . @both . ' overflowed to both');
cmp_ok(scalar keys %$_, '>=', 3, '… and each has some') for $at_a, $at_b;

# A host dies.  Its viewers come back by themselves.
my %moved = map { $_ => 1 } keys %$at_b;
kill 'KILL', map { ($_, $two->members('seatcast'), $two->members('lighttpd')) } grep { defined } map { $two->pid($_) } qw(seatcast lighttpd);
$two->wait_end($_) for qw(seatcast lighttpd);
delete $two->{proc}{$_} for qw(seatcast lighttpd);
$s->expect('its viewers are at the other host', sub { $_->reconnect for grep { $_->{closed} } @fan; keys %{at($one)} == @block }, 20);
is(scalar(grep { !$moved{$_->{path} =~ m{blocks/(\d+)} ? $1 : 0} && $_->events('init') != 1 } @fan), 0, 'nobody else had to move');
$s->sql('INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, \'HOLD\' FROM seats WHERE block_id > 200');
ok($s->wait_for(sub { !grep { my ($block) = $_->{path} =~ m{blocks/(\d+)}; $block > 200 && ($_->{seats}{$block * 1000} // '') ne 'HOLD' } @fan }, 10), 'a change in all of them reaches all');

# It is back: who comes anew for its blocks is sent there.
$two->start_seatcast(@options)->start_lighttpd(port => $two->{port});
$_->close for @fan;
my ($moved) = grep { !$at_a->{$_} } sort keys %moved;
$s->expect("block $moved is at its host again", sub { my $c = $s->client('new')->watch(1, $moved); $s->wait_for(sub { $c->events('init') }, 3); my $there = at($two)->{$moved}; $c->close; return $there }, 60);
$two->stop_lighttpd;
$two->stop_seatcast;
$s->done;

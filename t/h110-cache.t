#!/usr/bin/env perl
# A real cache in front carries the pollers: 2,000 of them ask each second what changed in one block, some are cut off for a
# while and some begin anew.  Seatcast sees at most three requests a second, everybody converges, and nobody ever gets an
# older state after a newer one, also while the cache serves what is stale.  With Varnish and with nginx, by their samples.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Socket; use Time::HiRes qw(time);

my ($POLLERS, $SOCKETS, $SECONDS) = (2000, 40, 12);
my $s = Scenario->new(seats => 60, poll_interval => '500ms');
my $stage = $s->{stage};
my $behind = $stage->{port};

for my $cache (qw(varnish nginx)) {
	SKIP: {
		skip "$cache is not installed", 1 if !have($cache eq 'varnish' ? 'varnishd' : 'nginx');
		subtest $cache => sub { carried($cache) };
	}
	die "$cache failed\n" if !Test::More->builder->is_passing;
}

# One poller: the id it has, the seats it knows, the version of that id, what went wrong.
sub poller { return { id => '', seats => {}, version => 0, epoch => '', back => 0, full => 0, bad => 0 } }

sub answer {
	my ($p, $body) = @_;
	my ($epoch, $version) = $body =~ /"id":"([0-9a-f]{8})-(\d+)"/ or return $p->{bad}++;
	$p->{back}++ if $epoch eq $p->{epoch} && $version < $p->{version};
	@$p{qw(id epoch version)} = ("$epoch-$version", $epoch, $version);
	$p->{seats} = {}, $p->{full}++ if $body =~ /"full":true/;
	my ($list) = $body =~ /"seats":\[(.*?)\]/;
	$p->{seats}{$1} = $2 while $list =~ /"id":(\d+),"status":"(\w+)"/g;
	return;
}

# All of these ask once, over keep-alive connections, pipelined.
sub ask_all {
	my ($port, @pollers) = @_;
	my @lot;
	push @{$lot[$_ % $SOCKETS]}, $pollers[$_] for 0 .. $#pollers;
	my %open;
	for my $lot (grep { defined } @lot) {
		socket my $fh, PF_INET, SOCK_STREAM, 0 or die "socket: $!";
		connect $fh, pack_sockaddr_in($port, INADDR_LOOPBACK) or die "connect: $!";
		my $requests = join '', map { "GET /api/matches/1/blocks/101/seats/changes?since=$_->{id} HTTP/1.1\r\nHost: site\r\n\r\n" } @$lot;
		syswrite $fh, $requests or die "write: $!";
		$open{fileno $fh} = { fh => $fh, lot => [@$lot], in => '' };
	}
	my $end = time + 30;
	while (%open && time < $end) {
		my $r = '';
		vec($r, $_, 1) = 1 for keys %open;
		next if select($r, undef, undef, 1) <= 0;
		for my $fd (grep { vec $r, $_, 1 } keys %open) {
			my $o = $open{$fd};
			my $n = sysread $o->{fh}, $o->{in}, 1 << 18, length $o->{in};
			while (@{$o->{lot}} && $o->{in} =~ /\A(HTTP.*?\r\n\r\n)/s) {
				my $head = $1;
				my ($length) = $head =~ /^content-length: (\d+)/mi;
				my ($body, $whole);
				if (defined $length) {
					last if length $o->{in} < length($head) + $length;
					($body, $whole) = (substr($o->{in}, length $head, $length), length($head) + $length);
				} else {			# chunked
					my $rest = substr $o->{in}, length $head;
					last if $rest !~ /\A((?:[0-9a-fA-F]+\r\n.*?\r\n)*?0\r\n\r\n)/s;
					my $chunks = $1;
					($body, $whole) = ($chunks =~ s/[0-9a-fA-F]+\r\n(.*?)\r\n/$1/gsr, length($head) + length $chunks);
				}
				substr $o->{in}, 0, $whole, '';
				my $p = shift @{$o->{lot}};
				$head =~ m{\AHTTP/1\.1 200} ? answer($p, $body) : $p->{bad}++;
			}
			delete $open{$fd} if !@{$o->{lot}} || !$n;
		}
	}
	return;
}

sub carried {
	my ($cache) = @_;
	$s->sql('DELETE FROM allocations');
	my $port = $cache eq 'varnish' ? start_varnish($stage, $behind) : start_nginx_cache($stage, $behind);
	my @all = map { poller() } 1 .. $POLLERS;
	ask_all($port, $all[0]);
	is($all[0]{full}, 1, 'the first answer is everything');
	my $asked = $s->counter('requests');
	my $began = time;
	my $n = 0;
	while (time - $began < $SECONDS) {
		my $round = time;
		$s->sql(sprintf q(INSERT INTO allocations (match_id, seat_id, user_id, status) SELECT 1, 101 + (%d + i * 7) %% 60, 7, 'HOLD' FROM generate_series(1, 5) AS i
			ON CONFLICT (match_id, seat_id) DO UPDATE SET status = CASE allocations.status WHEN 'HOLD' THEN 'OCCUPIED' WHEN 'OCCUPIED' THEN 'AVAILABLE' ELSE 'HOLD' END), $n++);
		@$_{qw(id epoch seats)} = ('', '', {}) for grep { rand() < 0.0003 } @all;	# a page that is loaded anew
		ask_all($port, grep { rand() > 0.01 || $_ == $all[0] } @all);	# the others are cut off, this time
		select undef, undef, undef, 1 - (time - $round) if time - $round < 1;
	}
	my $rate = ($s->counter('requests') - $asked - 1) / (time - $began);
	cmp_ok($rate, '<=', 3, sprintf '%d rounds of %d pollers: %.1f requests a second reach seatcast', $n, $POLLERS, $rate);
	my %want = map { @$_ } $s->sql(q(SELECT s.id, coalesce(a.status, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id AND a.match_id = 1 WHERE s.block_id = 101));
	my $text = join ' ', map { "$_=$want{$_}" } sort keys %want;
	my $converged = $s->wait_for(sub {
		my @late = grep { my $p = $_; join(' ', map { "$_=$p->{seats}{$_}" } sort keys %{$p->{seats}}) ne $text } @all;
		ask_all($port, @late), select undef, undef, undef, 0.3 if @late;
		return !@late;
	}, 30);
	ok($converged, 'everybody has what the database has');
	my ($back, $bad) = (0, 0);
	$back += $_->{back}, $bad += $_->{bad} for @all;
	is($back, 0, 'nobody got an older state after a newer one');
	is($bad, 0, '… nor anything but an answer');
	my $stream = do { local $stage->{port} = $port; $s->client("stream through $cache")->watch(1, 101)->expect_event('init') };
	$s->sql(q(UPDATE allocations SET status = 'OCCUPIED' WHERE seat_id = 101 OR seat_id = 102));
	$s->sql(q(INSERT INTO allocations (match_id, seat_id, user_id, status) VALUES (1, 103, 7, 'OCCUPIED') ON CONFLICT (match_id, seat_id) DO UPDATE SET status = 'OCCUPIED'));
	$stream->expect_seat(103 => 'OCCUPIED', within => 5);
	$stage->stop($cache eq 'varnish' ? 'varnish' : 'nginx-cache', 'TERM', 20);
	return;
}
$s->done;

#!/usr/bin/env perl
# PostgreSQL under Patroni and etcd, three nodes from etc/patroni.yml, two hosts of seatcast behind HAProxy, 200 viewers, and buyers all the time.  A
# switch-over, and a leader that is killed, patroni and all: the streams stay, stale and fresh are said, and nothing that was acknowledged is
# lost.  With asynchronous replication a killed leader takes its last commits with it: what is left is shown as it is.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib"; use Scenario; use Deploy; use IO::Socket::INET; use JSON::PP; use Time::HiRes qw(time);

plan skip_all => "$_ is not installed (Debian: patroni, etcd-server, haproxy)" for grep { !have($_) } qw(patroni etcd haproxy);
my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my ($viewers, $seats) = (200, 4000);
my $s = Scenario->new(seats => 2, start => 0, lighttpd_conf => '', pg => { log_statement => 'none' });
my ($one, $dir) = ($s->{stage}, $s->dir);
my $user = $one->{pg_user} // getpwuid $<;
$s->pg_stop;

# ---- etcd, three nodes ----

my %used;
sub free_port { while (1) { my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die; my $port = $l->sockport; return $port if !$used{$port}++ } }
my ($client, $peer) = (free_port(), free_port());
$one->spawn('etcd', [have('etcd'), '--name', 'one', '--data-dir', "$dir/etcd", '--unsafe-no-fsync', '--listen-client-urls', "http://127.0.0.1:$client", '--advertise-client-urls', "http://127.0.0.1:$client",
	'--listen-peer-urls', "http://127.0.0.1:$peer", '--initial-advertise-peer-urls', "http://127.0.0.1:$peer", '--initial-cluster', "one=http://127.0.0.1:$peer"]);
$s->expect('etcd answers', sub { Deploy::answers($client) }, 20 * $slow);

my @node = map { { name => "node$_", port => free_port(), rest => free_port(), data => "$dir/node$_" } } 1 .. 3;
my $bin = $one->pg_bin('postgres') =~ s{/postgres\z}{}r;
for my $n (@node) {
	mkdir $n->{data}, 0700 or die "$n->{data}: $!";
	chown +(getpwnam $user)[2, 3], $n->{data} if defined $one->{pg_user};
}
sub start_node {
	my ($n) = @_;
	my $text = Deploy::sample($one, 'etc/patroni.yml', 'name: node1' => "name: $n->{name}", 'hosts: 10' => "hosts: 127.0.0.1:$client", 'listen: 10.0.0.21:8008' => "listen: 127.0.0.1:$n->{rest}",
		'connect_address: 10.0.0.21:8008' => "connect_address: 127.0.0.1:$n->{rest}", 'listen: 10.0.0.21:5432' => "listen: 127.0.0.1:$n->{port}",
		'connect_address: 10.0.0.21:5432' => "connect_address: 127.0.0.1:$n->{port}", 'data_dir: ' => "data_dir: $n->{data}", 'bin_dir: ' => "bin_dir: $bin", 'pgpass: ' => "pgpass: $dir/pg/$n->{name}.pass",
		'unix_socket_directories: ' => "unix_socket_directories: $dir/pg", '- local all postgres peer' => '- local all all trust',
		'- host replication' => '- host replication replicator 127.0.0.1/32 scram-sha-256', '- host tickets' => '- host all all 127.0.0.1/32 scram-sha-256');
	$text =~ s/^( +)wal_keep_size: 1GB$/$1wal_keep_size: 64MB\n$1shared_buffers: 32MB\n$1fsync: "off"/m;
	my $file = Deploy::put($one, "$n->{name}.yml", $text);
	$one->spawn($n->{name}, [have('patroni'), $file], user => $one->{pg_user});
}
# What a node says of itself: its role, or ''.
sub about { my ($n) = @_; my $text = qx{curl -s -m 2 http://127.0.0.1:$n->{rest}/patroni}; return eval { decode_json($text) } // {} }
sub leader { return (grep { my $is = about($_); ($is->{role} // '') =~ /^(?:master|primary)$/ && $is->{state} eq 'running' } @node)[0] }
sub patch { my ($json) = @_; my $text = qx{curl -s -m 5 -XPATCH -d '$json' http://127.0.0.1:$_[1]{rest}/config}; return $text }
chmod 0755, "$dir/pg";
start_node($node[0]);
$s->expect('the first node leads', sub { leader() }, 90 * $slow);
start_node($_) for @node[1, 2];
sub replicas { my $l = leader() or return 0; return scalar grep { ($_->{state} // '') eq 'streaming' } @{about($l)->{replication} // []} }
$s->expect('two replicas stream from it', sub { replicas() == 2 }, 120 * $slow);
sub at_leader { my $l = leader() or return; $one->hang_up; $one->{pg_port} = $l->{port}; return $l }
at_leader();
$one->pg_install(seats => $seats);

# ---- two hosts, a balancer, viewers ----

my $conninfo = sprintf 'host=%s port=%s dbname=seatcast user=seatcast_writer target_session_attrs=read-write', join(',', ("$dir/pg") x 3), join(',', map { $_->{port} } @node);
my $two = Stage->new;
@$two{qw(pg_port tick)} = @$one{qw(pg_port tick)};
for my $stage ($one, $two) {
	$stage->start_seatcast(database => $conninfo, workers => 2, max_streams => 1000);
	$stage->stop_lighttpd;
	$stage->start_lighttpd;
}
$one->{port} = start_haproxy($one, map { $_->{port} } $one, $two);
$s->expect('the site is up', sub { ($s->http(GET => '/readyz')->{status} // 0) == 403 && ($s->http(GET => '/api/matches')->{status} // 0) == 200 }, 20 * $slow);
my @fan = map { $s->client("fan $_")->watch(1, 101) } 1 .. $viewers;
ok($s->wait_for(sub { !grep { !$_->events('init') } @fan }, 30 * $slow), "$viewers viewers through HAProxy");

# ---- buyers: one seat after the other is held and bought; what was answered 200 counts ----
# (Who has no answer does not know: what became of it is shown, and a second try says the same.)

my ($next, %sold, %refused) = (101);
sub buy {
	my ($for) = @_;
	my $end = time + $for;
	while (time < $end && $next < 101 + $seats - 50) {
		my $seat = $next;
		my $held = $s->http(POST => "/api/matches/1/allocation/seats/$seat/hold", {}, '{"userId":7}', 8);
		my $bought = ($held->{status} // 0) == 200 ? $s->http(POST => '/api/matches/1/allocation/seats/confirm', {}, qq({"userId":7,"seatIds":[$seat]}), 8) : $held;
		my $status = $bought->{status} // 'none';
		$next++ if $status =~ /^(?:200|409)$/;		# else the buyer tries again, the same seat
		if ($status eq '200') { $sold{$seat} = time } else { $refused{$status}++; $s->pass_time(0.1) }
	}
	return;
}
sub lost {
	my %is = map { $_->[0] => 1 } $s->sql("SELECT seat_id FROM allocations WHERE match_id = 1 AND block_id = 101 AND status = 'OCCUPIED'");
	return grep { !$is{$_} } sort { $a <=> $b } keys %sold;
}

my @table;
# Something happens to the leader; then all is well again.
sub trouble {
	my ($what, $do, $lossless) = @_;
	my $old = leader();
	my %from = map { $_ => scalar @{$_->{events}} } @fan;
	%refused = ();
	buy(2);
	my $before = keys %sold;
	my $began = $do->($old);
	my $new;
	while (time - $began < 90 * $slow && !$new) {
		buy(1);
		my $l = leader();
		$new = $l if $l && $l != $old && keys %sold > $before + 3;
	}
	ok($new, "$what: another node leads, and seats are sold again") or die "no new leader\n" . join "\n", map { $s->log_text($_->{name}) =~ s/.*\n(?=(?:.*\n){20}\z)//sr } @node;
	my $again = (sort { $a <=> $b } grep { $_ > $began + 0.5 } values %sold)[0];
	buy(2);
	at_leader();
	my @seen = map { my $c = $_; [@{$c->{events}}[$from{$c} .. $#{$c->{events}}]] } @fan;
	is(scalar(grep { $_->{closed} || $_->events('init') != 1 } @fan), 0, '… every stream is the one that it was');
	my $want = { map { @$_ } $s->sql("SELECT s.id, coalesce(a.status, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = 101") };
	ok($s->wait_for(sub { !grep { my $c = $_; grep { ($c->{seats}{$_} // '') ne $want->{$_} } keys %$want } @fan }, 15 * $slow), '… all show what the new leader has') or diag join ' ', grep { $fan[0]{seats}{$_} ne $want->{$_} } keys %$want;
	@seen = map { my $c = $_; [@{$c->{events}}[$from{$c} .. $#{$c->{events}}]] } @fan;
	my @stale = sort { $a <=> $b } map { $_->{at} - $began } map { grep { $_->{type} eq 'stale' } @$_ } @seen;
	my @fresh = sort { $a <=> $b } map { $_->{at} - $began } map { grep { $_->{type} eq 'fresh' } @$_ } @seen;
	is(scalar @fresh, scalar @stale, '… who heard stale has heard fresh');
	my @lost = lost();
	is(join(' ', @lost), '', '… nothing that was acknowledged is lost') if $lossless;
	delete @sold{@lost};
	push @table, sprintf '%-44s %8s %8s %8s %9d %6d', $what, (map { @$_ ? sprintf '%.1f', $_->[@$_ / 2] : '-' } \@stale, \@fresh), $again ? sprintf('%.1f', $again - $began) : '-', $before, scalar @lost;
	note("answers meanwhile other than 200: ", join ', ', map { "$_: $refused{$_}" } sort keys %refused);
	return \@lost;
}
sub kill_node {
	my ($n) = @_;
	my @all = $one->members($n->{name});
	my ($postmaster) = split /\n/, Stage::slurp("$n->{data}/postmaster.pid");
	my %in = map { $_ => 1 } @all, $postmaster // ();
	$in{$_->[1]} and $in{$_->[0]} = 1 for Stage::processes();
	kill 'KILL', $one->pid($n->{name}), keys %in;
	$one->wait_end($n->{name}, 10);
	delete $one->{proc}{$n->{name}};
}
sub whole_again {
	my ($n) = @_;
	start_node($n) if !$one->{proc}{$n->{name}};
	$s->expect('three nodes again', sub { replicas() == 2 }, 150 * $slow);
}

my ($standby) = grep { (about($_)->{role} // '') eq 'sync_standby' || (about($_)->{sync_standby} // 0) } @node;
ok($s->wait_for(sub { ($standby) = grep { about($_)->{sync_standby} } @node }, 30 * $slow), 'one replica is synchronous');
trouble('switch-over', sub {
	my ($old) = @_;
	my $now = time;
	my $said = qx{curl -s -m 60 -d '{"leader":"$old->{name}","candidate":"$standby->{name}"}' http://127.0.0.1:$old->{rest}/switchover};
	like($said, qr/Successfully|switched over/i, 'patroni switches over');
	return $now;
}, 1);
whole_again($_) for grep { !$one->{proc}{$_->{name}} } @node;
$s->expect('three nodes again', sub { replicas() == 2 && grep { about($_)->{sync_standby} } @node }, 150 * $slow);
my $dead;
trouble('leader killed, synchronous replication', sub { my $now = time; kill_node($dead = $_[0]); return $now }, 1);
whole_again($dead);

# Asynchronous: the last commits of the leader reach nobody.
like(patch('{"synchronous_mode":false}', leader()), qr/"synchronous_mode": ?false/, 'now asynchronous');
$s->expect('no replica is waited for', sub { my $l = at_leader() or return 0; ($s->sql('SHOW synchronous_standby_names'))[0][0] eq '' }, 30 * $slow);
my @receivers;
my $lost = trouble('leader killed, asynchronous replication', sub {
	my ($old) = @_;
	$dead = $old;
	my @pids = map { (split /\n/, Stage::slurp("$_->{data}/postmaster.pid"))[0] } grep { $_ != $old } @node;
	@receivers = map { $_->[0] } grep { my $p = $_; $p->[3] =~ /walreceiver/ && grep { $_ == $p->[1] } @pids } Stage::processes();
	kill 'STOP', @receivers;
	buy(1.5);
	my $now = time;
	kill_node($old);
	kill 'KILL', @receivers;		# with what the kernel had for them
	return $now;
}, 0);
cmp_ok(scalar @$lost, '>', 0, @$lost . ' sales were taken back by it, and the page shows them free: ' . join ' ', @{$lost}[0 .. ($#$lost > 4 ? 4 : $#$lost)]);
diag(join "\n", sprintf('%-44s %8s %8s %8s %9s %6s', 'seconds after:', 'stale', 'fresh', 'sold', 'bought', 'lost'), @table);

$_->close for @fan;
for my $n (grep { $one->{proc}{$_->{name}} } @node) { $one->stop($n->{name}, 'TERM', 60) }
$one->stop('haproxy', 'INT', 20);
$two->stop_lighttpd;
$two->stop_seatcast;
$one->stop('etcd', 'TERM', 20);
$s->done;

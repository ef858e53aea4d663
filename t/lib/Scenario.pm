# SPDX-License-Identifier: ISC
package Scenario;

# A test's view of the world: its own PostgreSQL, seatcast and lighttpd (see Stage.pm),
# named clients (Client.pm), and expectations that retry until a deadline.
#
#	my $s = Scenario->new(poll_interval => '200ms');
#	my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
#	$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
#	$c->expect_seat(101 => 'HOLD', within => 1);
#	$s->done;
#
# While anything waits, one select loop serves all clients.  When a test fails, the
# logs follow as TAP comments and the directory is kept.  done is the end of a test:
# it stops everything and fails if that, or anything before it, went wrong unnoticed.

use v5.32;
use warnings;
use Exporter qw(import);
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time);
use Client;
use FastCGI;
use Stage;

our @EXPORT = @Test::More::EXPORT;	# a test says "use Scenario" and has ok, is, like …
my $current;
my @PASSED_ON = qw(pg_start pg_stop pg_kill pg_freeze pg_thaw pg_conninfo pg_signal session sql sql_file pid members
	start_lighttpd stop_lighttpd url log_path log_text dir);
for my $name (@PASSED_ON) {
	no strict 'refs';
	*$name = sub { my $self = shift; return $self->{stage}->$name(@_) };
}

# Options of the harness: demo => 1 or seats => N (see Stage::pg_install), lighttpd => 0 (clients speak FastCGI
# themselves), lighttpd_conf => text to append, pg => {settings}, env => {seatcast's}, start => 0 (no seatcast yet).
# All others are seatcast's; undef takes the program's own default instead of the tests'.
sub new {
	my ($class, %o) = @_;
	my %h = map { $_ => delete $o{$_} } qw(demo seats lighttpd lighttpd_conf pg env start);
	my $self = bless { clients => [], direct => !($h{lighttpd} // 1) }, $class;
	$self->{seatcast} = { workers => 2, poll_interval => '200ms', drain_timeout => '1s', env => $h{env} // {} };
	$self->{seatcast}{tr/-/_/r} = $o{$_} for keys %o;
	my $server = $self->{direct} || defined $h{lighttpd_conf} ? undef : $ENV{SEATCAST_SERVER};	# another one instead of lighttpd
	$h{pg}{unix_socket_permissions} = '0777' if $server;		# whose programs are another user's
	my $stage = $self->{stage} = Stage->new(pg => { log_statement => 'all', %{$h{pg} // {}} });
	$current = $self;
	$stage->spawn('canary', [$^X, "$stage->{src}/t/lib/canary.pl"]);
	$stage->pg_start->pg_install(%h);
	$stage->{tick} = sub { $self->serve(0.01) };
	if ($server) {
		require Deploy;
		chmod 0755, "$stage->{dir}/pg";
		$stage->{listen} = "$stage->{dir}/fcgi.sock";
		$self->{seatcast}{listen_mode} //= '0666';
		$self->{seatcast}{heartbeat} //= '1s' if $server ne 'nginx';	# Apache notices with the second that a browser has left
		@{$self->{seatcast}}{qw(control control_user)} = ("$stage->{dir}/control.sock", Deploy::web_user()) if $server eq 'mod-fcgid';
	}
	$self->start_seatcast if $h{start} // 1;
	if ($server) {
		Deploy::start_server($stage, $server);
	} elsif (!$self->{direct}) {
		$stage->start_lighttpd(append => $h{lighttpd_conf});
	}
	return $self;
}

# With the options of new, and others if given.
sub start_seatcast {
	my ($self, %o) = @_;
	$self->{stage}->start_seatcast(%{$self->{seatcast}}, map { tr/-/_/r => $o{$_} } keys %o);
	return $self;
}

sub restart_seatcast { my ($self, $signal, %o) = @_; $self->stop_seatcast($signal); return $self->start_seatcast(%o) }

# Its wait status: 0 is what it should be.
sub stop_seatcast { my ($self, $signal, $within) = @_; return $self->{ended} = $self->{stage}->stop_seatcast($signal, $within) }

sub stream_path { my ($self, $match, $block) = @_; return "/api/matches/$match/blocks/$block/seats/status-stream" }
sub snapshot_path { my ($self, $match, $block) = @_; return "/api/matches/$match/blocks/$block/seats" }

sub client {
	my ($self, $name, %o) = @_;
	push @{$self->{clients}}, my $c = Client->new($self, $name, %o);
	return $c;
}

# ---- waiting ----

# Serve all clients once, for at most that long.
sub serve {
	my ($self, $seconds) = @_;
	my ($r, $w, %by) = ('', '');
	for my $c (grep { $_->{fh} } @{$self->{clients}}) {
		my $fd = fileno $c->{fh};
		$by{$fd} = $c;
		vec($r, $fd, 1) = 1 if $c->wants_read;
		vec($w, $fd, 1) = 1 if $c->wants_write;
	}
	return if select($r, $w, undef, $seconds) <= 0;
	for my $fd (keys %by) {
		my $c = $by{$fd};
		$c->pump if vec($w, $fd, 1) && $c->{fh};
		$c->take if vec($r, $fd, 1) && $c->{fh};
	}
	return;
}

# What cond returned once true; undef when the deadline has passed.
sub wait_for { my ($self, $cond, $within) = @_; return $self->{stage}->wait_until($cond, $within) }

# One TAP line: cond becomes true in time.  Ends the test otherwise.
sub expect {
	my ($self, $says, $cond, $within) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($self->wait_for($cond, $within), $says) or die "not seen: $says\n";
	return $self;
}

# One TAP line: what took so many seconds, in the last ten or so, took less than the limit.  A change passes five processes
# or so on its way to a client, and each may have had to wait for a core: five times as late as this machine woke a sleeper
# meanwhile (canary.pl) is added to the limit, so that a starved machine is told apart from a slow program.
sub in_time {
	my ($self, $took, $limit, $says) = @_;
	my ($since, $late) = (time - ($took // 0) - 10, 0);
	for ($self->log_text('canary') =~ /^([\d.]+ [\d.]+)$/mg) {
		my ($woke, $by) = split / /;
		$late = $by if $woke > $since && $by > $late;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	note(sprintf 'the machine woke a sleeper %.0f ms late meanwhile', 1000 * $late) if $late > 0.02;
	return cmp_ok($took // 9e9, '<', $limit + 5 * $late, $says);
}

# Let time pass with the clients served: for promises about what does not happen.
sub pass_time { my ($self, $seconds) = @_; $self->wait_for(sub { 0 }, $seconds); return $self }

# ---- asking ----

# A whole exchange: {status, headers, body, json, closed}.  Body may be a reference: it is sent as JSON.
sub http {
	my ($self, $method, $path, $headers, $body, $within) = @_;
	$body = JSON::PP->new->canonical->encode($body) if ref $body;
	my $c = Client->new($self, "$method $path")->request($method, $path, $headers, $body);
	push @{$self->{clients}}, $c;
	$self->wait_for(sub { $c->{closed} }, $within);
	$self->{clients} = [grep { $_ != $c } @{$self->{clients}}];
	$c->close;
	return { (map { $_ => $c->{$_} } qw(status headers body closed)), json => scalar eval { decode_json($c->{body}) } };
}

# A raw connection to seatcast's FastCGI socket: see FastCGI.pm.
sub fcgi { my ($self) = @_; return FastCGI->connect($self->{stage}{listen}) }

# A counter's value: the sum over all lines of /metrics with this name (labels matching, if a pattern is given).  undef: none.
sub counter {
	my ($self, $name, $labels) = @_;
	($name, $labels) = ('refused', qr/reason="$1"/) if $name =~ /^refused_(\w+)$/;
	my $c = $self->fcgi->request(path => '/metrics')->answer;
	my $sum = ($c->{body} // '') =~ /^# TYPE seatcast_${name}(?:_total)? /m ? 0 : undef;	# a gauge of groups, and no group
	for (($c->{body} // '') =~ /^(seatcast_${name}(?:_total)?(?:\{[^}]*\})? \S+)$/mg) {
		my ($set, $value) = /^[^{ ]+(\S*) (\S+)$/;
		$sum += $value if !defined $labels || $set =~ $labels;
	}
	return $sum;
}

# expect_counter(viewers => 3); (polls => '>=', 10, within => 5, labels => qr{block="101"})
sub expect_counter {
	my ($self, $name, @o) = @_;
	my $op = $o[0] =~ /^[<>=!]+$/ ? shift @o : '==';
	my ($want, %o) = @o;
	my $test = { '==' => sub { $_[0] == $want }, '>=' => sub { $_[0] >= $want }, '<=' => sub { $_[0] <= $want },
		'>' => sub { $_[0] > $want }, '<' => sub { $_[0] < $want }, '!=' => sub { $_[0] != $want } }->{$op};
	my $value;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($self->wait_for(sub { $value = $self->counter($name, $o{labels}); defined $value && $test->($value) }, $o{within}),
		"counter $name $op $want") or die "counter $name is " . ($value // 'absent') . "\n";
	return $self;
}

# How often the database was asked for seats by seatcast; of one block, if given.  From the server's log: exact, at once.
sub queries {
	my ($self, $block) = @_;
	my @blocks = $self->log_text('postgresql') =~ /execute <unnamed>: [^\n]*seatcast\.(?:changes|snapshot)\([^\n]*\n[^\n]*DETAIL:  parameters: \$1 = '\d+', \$2 = '(\d+)'/g;
	return scalar grep { !defined $block || $_ == $block } @blocks;
}

sub expect_log {
	my ($self, $pattern, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($self->wait_for(sub { $self->log_text($o{of} // 'seatcast') =~ $pattern }, $o{within}), "log has $pattern")
	    or die "not logged: $pattern\n";
	return $self;
}

# pids by title: 'master', 'worker', 'loop' (any) or 'loop 1/101'.
sub pids {
	my ($self, $role) = @_;
	my %ours = map { $_ => 1 } $self->pid('seatcast') // (), $self->members('seatcast');
	my @found = sort { $a <=> $b } map { $_->[0] } grep { $ours{$_->[0]} && $_->[3] =~ m{seatcast: \Q$role\E(?![\w/])} } Stage::processes();
	return @found;
}

sub fds { my ($self, $pid) = @_; my @fds = glob "/proc/$pid/fd/*"; return scalar @fds }
sub rss { my ($self, $pid) = @_; return (Stage::slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m)[0] }	# KiB

# Memory and time mean little when AddressSanitizer is in the program.
sub sanitized { my ($self) = @_; return Stage::slurp('/proc/' . $self->pid('seatcast') . '/maps') =~ /asan/ }

# ---- the end ----

# Stop all; allow => qr/…/ names lines of the log that are no failure here.
sub done {
	my ($self, %o) = @_;
	my $stage = $self->{stage};
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$_->close for @{$self->{clients}};
	if ($stage->pid('seatcast')) {
		my $early = $stage->ended('seatcast');
		my $status = $self->stop_seatcast;
		ok(!$early && $status == 0, 'seatcast ran to the end and exits 0') or diag("wait status $status");
		my $left;
		$stage->wait_until(sub { !($left = join ', ', map { "$_->[0] $_->[3]" } grep { $_->[2] == $stage->{last_group} } Stage::processes()) }, 5);
		is($left, '', 'no process of seatcast is left');
	}
	Deploy::stop_server($stage) if ($stage->{web} // '') eq 'web';	# as it wants to be: killed, it would leave its own processes
	my @bad = grep { !$o{allow} || $_ !~ $o{allow} } $self->log_text('seatcast') =~
	    /^(.*(?:AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|must: |\bfatal\b|==\d+== (?:Invalid|Conditional)|Z error |confined: ).*)$/mg;
	is(join("\n", @bad), '', 'the log is clean');
	$self->keep if !Test::More->builder->is_passing;
	is(join("\n", $stage->strike), '', 'all stopped when asked');
	undef $current;
	done_testing();
	return;
}

# Something failed: show the logs, keep the directory.
sub keep {
	my ($self) = @_;
	return if $self->{kept}++;
	$self->{stage}{keep} = 1;
	for my $name (qw(seatcast lighttpd error postgresql)) {
		my @lines = split /\n/, $self->log_text($name);
		@lines = grep { !/LOG:  (?:statement|execute)|DETAIL:  parameters|^\t/ } @lines if $name eq 'postgresql';
		splice @lines, 0, @lines - 100 if @lines > 100;
		note("log/$name.log, the end of it:") if @lines;
		note("  $_") for @lines;
	}
	diag('logs and data are kept in ', $self->dir);
	return;
}

END {
	my $status = $?;
	my $owner = $current && $current->{stage}{owner} == $$;
	eval { $current->keep } if $owner && ($status || !Test::More->builder->is_passing) && $status < 128;
	$? = $status;
}

1;

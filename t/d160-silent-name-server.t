#!/usr/bin/env perl
# A name server that does not answer holds nobody up: streams go on, other requests are answered, and a lost database is found
# again under the address that its name had last.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 10, lighttpd => 0, start => 0, pg => { listen_addresses => '127.0.0.1' });
my $dir = $s->{stage}{dir};
my ($so, $silent) = ("$dir/names.so", "$dir/silent");
my @cc = (split(' ', $ENV{CC} // 'cc'), qw(-shared -fPIC -o), $so, "$FindBin::Bin/lib/names.c", '-ldl');
if (system(@cc) != 0) {
	$s->{stage}->strike;
	plan skip_all => "no C compiler: @cc";
}
sub silence { my ($on) = @_; if ($on) { open my $f, '>', $silent or die "$silent: $!" } else { unlink $silent } return }

# From the first moment on
silence(1);
$s->{seatcast}{env} = { LD_PRELOAD => $so, NAMES_SILENT => $silent, ASAN_OPTIONS => 'detect_leaks=1:verify_asan_link_order=0' };
$s->start_seatcast(database => $s->pg_conninfo(host => 'db.test', user => 'seatcast_writer', sslmode => 'disable', gssencmode => 'disable'));
is($s->http(GET => '/healthz')->{status}, 200, 'nobody knows where the database is: healthz answers');
my $early = $s->client('early')->watch(1, 101);
is($s->http(GET => '/healthz')->{status}, 200, '... also while a stream waits for it');
silence(0);
$early->expect_event('init', within => 5);

# With an address that is known
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
silence(1);
my $connects = $s->counter('database_connects');
$s->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'seatcast_writer'");
my $other = $s->client('late')->watch(1, 101)->expect_event('init', within => 2);
$s->expect('it is connected again, under the address it had', sub { $s->counter('database_connects') > $connects }, 5);
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$_->expect_seat(101 => 'HOLD', within => 5) for $c, $other, $early;
for (1 .. 3) {
	$connects = $s->counter('database_connects');
	$s->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'seatcast_writer'");
	$s->expect("... and again ($_)", sub { $s->counter('database_connects') > $connects }, 5);
}
my ($threads) = map { Stage::slurp("/proc/$_/status") =~ /^Threads:\s+(\d+)/m } $s->pids('loop 1/101');
cmp_ok($threads, '<=', 2, 'lookups that hang do not pile up');
is(scalar(grep { $_->{closed} } $c, $other, $early), 0, 'no stream has ended');
silence(0);
$s->done;

#!/usr/bin/env perl
# Each of these faults, put into a copy of the program or into the played database, is found by the stories of t/sim within a minute.
#	perl t/slow/s040-stories-are-able-to-fail.t [NAME ...]
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use File::Temp qw(tempdir); use Test::More; use Time::HiRes qw(time);

my $src = $ENV{top_srcdir} // "$FindBin::Bin/../..";
my $build = $ENV{top_builddir} // "$src/build";
plan skip_all => 'for a build without sanitizers' if $build =~ /sanitizers/;
plan skip_all => "$build/t/sim/sim: not built (make check builds it)" unless -x "$build/t/sim/sim";
my $dir = tempdir('seatcast-plants-XXXXXX', TMPDIR => 1, CLEANUP => 1);

# In the port functions as t/sim/database.c plays them: sim --plant NAME.
my @database = (
	['gt',		'changed_xid > cursor'],
	['own-xmin',	'this poll\'s xmin as the bound instead of the one before it'],
	['xmax',	'xmax instead of xmin as the cursor'],
	['torn',	'the cursor of a later snapshot than the rows'],
	['rewrite',	'a rewritten table is empty for a statement that waited for it, and nobody says so'],
);
# In the program: name, what it is, file, what stands there (once), what comes in its place.
my @program = (
	['id-on-each',	'an id on each update', 'loop/sse.c', "\t\tif (!more)\n\t\t\tput_id", "\t\t\tput_id"],
	['id-first',	'the id before its data', 'loop/sse.c', "\t\tput_cell(b, v, &cell);\n\t\tif (!more)\n\t\t\tput_id(b, id);\n", "\t\tif (!more)\n\t\t\tput_id(b, id);\n\t\tput_cell(b, v, &cell);\n"],
	['greedy-pass',	'a pass claims the version of its end for all seats', 'loop/pass.c', '{ p->upto, p->from, p->at }', '{ p->at, 0, 0 }'],
	['pass-version', 'what came while a pass was on its way is not news to who is in it', 'loop/pass.c', "if (p->at == 0)\n\t\tp->at = now", "p->at = now"],
	['old-init',	'an init of an older version is given as of this one', 'loop/frames.c', "\tset_follow_version(f, fs);\n\tif ((fr = frame_find", "\tif (kind != FRAME_INIT)\n\t\tset_follow_version(f, fs);\n\tif ((fr = frame_find"],
	['early-version', 'a viewer has what it was given before it took it', 'loop/viewer.c', "\tv->pending_version = now;\n", "\tset_version(v, now);\n"],
	['lost-expiry',	'after a poll nobody waits for the end of a hold', 'loop/poller.c', "\tpoll_good(p, a);\n\texpiry_schedule(&p->expiry);\n", "\tpoll_good(p, a);\n"],
	['expiry-forgets', 'the earliest of the other holds is forgotten', 'loop/seat.c', 's->expires_ms < blk->next_expiry_ms', 's->expires_ms < blk->next_expiry_ms && blk->next_expiry_ms == SEAT_NO_EXPIRY'],
	['hold-again',	'a hold that is over comes back to life when its row is told again', 'loop/seat.c', "(over ? SEAT_AVAILABLE : row->status);\n\n\ttouch", "row->status;\n\n\ttouch"],
	['no-reconcile', 'a cursor is believed on another server', 'loop/poller.c', " || p->generation != db_generation(p->db))\n\t\tp->asked |= PORT_SNAPSHOT", ")\n\t\tp->asked |= PORT_SNAPSHOT"],
	['other-server', 'an answer from before the connection broke is taken in', 'loop/poller.c', "else if (!(p->asked & PORT_SNAPSHOT) && p->generation != db_generation(p->db))", "else if (0)"],
	['back-in-time', 'the word of a standby that is behind is taken at once', 'loop/poller.c', 'now - p->behind_ms < BEHIND_MS', 'now < p->behind_ms'],
	['counts',	'counts do not follow what the clock ends', 'loop/seat.c', "blk->counts_version = b->version;", "blk->counts_version = b->outcome.expired > 0 ? blk->counts_version : b->version;"],
	['any-id',	'an id is good for any view', 'loop/frames.c', "id.version <= seat_version(seats(f)) &&\n\t    view_includes(&of->view, &fs->view)", "id.version <= seat_version(seats(f))"],
	['layout',	'who has an older layout gets updates', 'loop/viewer.c', 'if (known.version < frames_layout_version(frames, v->set))', 'if (known.version == 0)'],
	['begun',	'an answer is called begun before it is', 'loop/fanout.c', "\tf->idle = false;\n\ttell_board(f);\n", "\tf->idle = false;\n\tboard_set(a->slot, BOARD_begun, (int64_t)number);\n\ttell_board(f);\n"],
	['not-writable', 'nobody waits for a connection to take more', 'loop/viewer.c', "v->slow = true;\n\t\twatch(v, EV_READ | EV_WRITE);", "v->slow = true;\n\t\twatch(v, EV_READ);"],
	['lost-end',	'the end of an answer is sent once, whether it fits or not', 'loop/viewer.c', "\tv->end_owed = true;\n", "\tv->end_owed = false;\n"],
	['impatient',	'who reads slowly is closed', 'loop/fanout.c', "silent_ms >= f->opts->stall_timeout_ms)", "silent_ms >= f->opts->stall_timeout_ms / 8)"],
	['patient',	'who takes nothing is never closed', 'loop/fanout.c', "silent_ms >= f->opts->stall_timeout_ms)", "silent_ms < 0)"],
	['no-beat',	'after the first beat comes no other', 'loop/fanout.c', "|| ev_is_active(&f->beat_timer))", "|| ev_is_active(&f->beat_timer) || first->version > 1)"],
	['no-fresh',	'nobody hears that the database is back', 'loop/viewer.c', "if (v->told_stale == stale)", "if (v->told_stale || v->told_stale == stale)"],
	['no-stale',	'nobody hears that the database is away', 'loop/poller.c', "\tset_stale(w->data, true);\n", ""],
	['busy-poll',	'a write brings the next poll forward at once, however short after the last', 'loop/poller.c', 'p->submitted_ms + GAP_MS < at', 'p->submitted_ms + 1 < at', 'p->submitted_ms + GAP_MS;', 'p->submitted_ms + 1;'],
	['lazy-poll',	'each other tick is skipped', 'loop/poller.c', 'return (ms + interval - (into < 0', 'return (ms + 2 * interval - (into < 0'],
	['gone-twice',	'the end of a connection is told twice', 'loop/loop.c', "\tlp->gone.n = 0;\n\treturn (0);", "\treturn (0);"],
);
my %wanted = map { $_ => 1 } @ARGV;

# A broken story, and after how long; or nothing.
sub hunt {
	my ($sim, @more) = @_;
	my $began = time;
	open my $out, '-|', 'timeout', '90', $sim, '--until-broken', '--whole', '--seeds', '1-100000', @more or die "$sim: $!";
	my ($first) = grep { /^# [a-z ]+, at / } <$out>;
	close $out;
	return ($first, time - $began);
}

sub report {
	my ($says, $found, $seconds) = @_;
	chomp $found if $found;
	ok($found && $seconds <= 60 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf '%s: found in %.1f s', $says, $seconds);
	note($found // 'not found');
}

for (grep { !%wanted || $wanted{$_->[0]} } @database) {
	my ($name, $says) = @$_;
	report("$name: $says", hunt("$build/t/sim/sim", '--plant', $name));
}
my $flags = `pkg-config --cflags libpq json-c`;
my $libs = `pkg-config --libs libpq json-c libbsd; pkg-config --silence-errors --libs libseccomp`;
$_ =~ s/\n/ /g for $flags, $libs;
for (grep { !%wanted || $wanted{$_->[0]} } @program) {
	my ($name, $says, $file, @changes) = @$_;
	open my $in, '<', "$src/src/$file" or die "$file: $!";
	my $text = do { local $/; <$in> };
	my $fits = 1;
	while (my ($from, $to) = splice @changes, 0, 2) {
		my $times = () = $text =~ /\Q$from\E/g;
		$fits &&= $times == 1;
		$text =~ s/\Q$from\E/$to/;
	}
	ok($fits, "$name: $file has the place where the fault goes") or next;
	(my $object = "$dir/$name") =~ s/$/.o/;
	open my $c, '>', "$dir/$name.c" or die $!;
	print $c $text;
	close $c;
	system("cc -std=gnu11 -g -O2 -w -D_GNU_SOURCE -DHASH_NONFATAL_OOM=1 -I$src/src -I$build -I$src/t/sim $flags -c $dir/$name.c -o $object") == 0
		&& system("cc $object $build/t/sim/sim-*.o $build/t/sim/libproduct.a $libs -o $dir/$name") == 0 or do { fail("$name: builds"); next };
	report("$name: $says", hunt("$dir/$name"));
}
done_testing;

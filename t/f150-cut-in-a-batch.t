#!/usr/bin/env perl
# SPEC 2: a client holds an id only when it has everything up to it.  One that is cut in the middle of a batch comes back with the id before
# it and gets the whole batch again: never a gap, wherever the cut was; cut before it has an id at all, it gets init.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use FastCGI; use Time::HiRes qw(time);

my $N = 300;
my $s = Scenario->new(seats => $N, lighttpd => 0, heartbeat => '60m', pg => { log_statement => 'none' });
my @STATUS = qw(AVAILABLE HOLD OCCUPIED);
my $path = $s->stream_path(1, 101);
my $round = 0;
my $stay = $s->client('stay')->watch(1, 101)->expect_event('init');

sub change_all {		# every seat; what they are then
	$round++;
	$s->sql("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, '$STATUS[$round % 3]' FROM seats WHERE block_id = 101 ORDER BY id
		ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
	return { map { $_ => $STATUS[$round % 3] } 101 .. 100 + $N };
}

# A viewer that is cut after so many bytes of the stream's text: what an EventSource has dispatched of it, {seats} and {id}.
package Cut {
	sub new { my ($class) = @_; return bless { seats => {}, id => undef, updates => 0, text => '', rest => '' }, $class }
	sub open { my ($self) = @_; $self->{f} = $s->fcgi->request(path => $path, headers => { Accept => 'text/event-stream', defined $self->{id} ? ('Last-Event-ID' => $self->{id}) : () }); $self->{head} = 1; return $self }
	sub feed {
		my ($self, $text) = @_;
		$self->{rest} .= $text;
		if ($self->{head}) {
			$self->{rest} =~ s/\A.*?\r?\n\r?\n//s or return;
			$self->{head} = 0;
		}
		while ($self->{rest} =~ s/\A(.*?)\n\n//s) {
			my $e = $1;
			my ($data) = $e =~ /^data: (.*)/m or next;
			$self->{id} = $1 if $e =~ /^id: (.*)/m;
			$self->{seats} = { $data =~ /"id":(\d+),"status":"(\w+)"/g }, $self->{inits}++ if $e =~ /^event: init/m;
			$self->{seats}{$1} = $2, $self->{updates}++ if $e =~ /^event: update/m && $data =~ /"seatId":(\d+),"status":"(\w+)"/;
		}
	}
	# Read at most so many bytes of text; then no more.
	sub read_text {
		my ($self, $most, $cond) = @_;
		my $f = $self->{f};
		my $end = Time::HiRes::time() + 5;
		while ($most > 0 && Time::HiRes::time() < $end && !($cond && $cond->())) {
			if (length $f->{stdout}) {
				my $part = substr $f->{stdout}, 0, $most, '';
				$most -= length $part;
				$self->feed($part);
				next;
			}
			$f->read_until(sub { length $f->{stdout} }, 0.1);
		}
		return $self;
	}
	sub cut { my ($self) = @_; $self->{f}->close; $self->{rest} = ''; return $self }
}

# Cut where: bytes into the batch (one update is some 75 bytes), or before its end.
my $batch = 300 * 73;
for my $at (1, 70, 76, 150, 1000, int($batch / 2), -120, -60, -40, -20, -2, -1) {
	my $c = Cut->new->open;
	$c->read_text(1 << 20, sub { $c->{inits} });
	my $before = $c->{id};
	my $have = { %{$c->{seats}} };
	is(keys %$have, $N, "cut at $at: init is there") or die;
	$c->{updates} = 0;
	my $want = change_all();
	$stay->expect_same_seats($want, within => 3);
	my $whole = 0;
	$whole += length "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":$_,\"status\":\"$want->{$_}\"}}\n\n" for keys %$want;
	$whole += length "id: $stay->{last_id}\n";
	$c->read_text($at > 0 ? $at : $whole + $at)->cut;
	is($c->{id}, $before, '… it has the id from before the batch, and ' . $c->{updates} . ' updates');
	($c->{updates}, $c->{inits}) = (0, 0);
	$c->open->read_text(1 << 20, sub { $c->{updates} >= $N });
	is($c->{updates}, $N, '… it gets the whole batch again') or diag('it has ' . $c->{updates} . " updates, $c->{inits} inits");
	is($c->{inits}, 0, '… and no init');
	is_deeply($c->{seats}, $want, '… and has the truth');
	is($c->{id}, $stay->{last_id}, '… and the id of now');
	$c->cut;
}

# Cut in the middle of the init, and in a batch during which more was changed: by and by.
my $c = Cut->new->open->read_text(500)->cut;
is($c->{id}, undef, 'cut in the init: no id');
$c->open->read_text(1 << 20, sub { $c->{inits} });
is(keys %{$c->{seats}}, $N, '… comes back without one: init');
my $want;
for (1 .. 5) {
	$want = change_all();
	$stay->expect_same_seats($want, within => 3);
	$c->read_text(4000)->cut->open;
}
$c->read_text(1 << 20, sub { ($c->{id} // '') eq $stay->{last_id} });
is_deeply($c->{seats}, $want, 'cut in each of five batches: the truth in the end');
is($c->{inits}, 1, '… without another init');
$s->expect_counter(resume_misses => 0);
$s->done;

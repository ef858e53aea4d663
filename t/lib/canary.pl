# SPDX-License-Identifier: ISC
# How late does this machine wake a sleeper?  Sleeps 10 ms again and again; each time that it is woken more than 5 ms late
# is a line: when it woke (seconds since 1970), and by how much too late.  Scenario.pm's in_time makes allowance for it.
use strict;
use warnings;
use Time::HiRes qw(time sleep);
$| = 1;
while (1) {
	my $due = time + 0.01;
	sleep 0.01;
	my $late = time - $due;
	printf "%.3f %.3f\n", time, $late if $late > 0.005;
}

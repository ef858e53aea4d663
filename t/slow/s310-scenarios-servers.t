#!/usr/bin/env perl
# The ordinary scenarios behind nginx and Apache (mod_proxy_fcgi, mod_fcgid) instead of lighttpd: all pass as they do there, but for
# what these servers do differently, and which is said here.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Test::More; use Deploy; use Others;

my %server = (
	nginx => {
		b010 => 'nginx keeps X-Accel-Buffering for itself',
	},
	'proxy-fcgi' => {
		c010 => 'it notices with the second beat, and not at once, that 300 browsers have left',
	},
	'mod-fcgid' => {
		b050 => '--hold-duration is that of the joined workers',
		c010 => 'as for mod_proxy_fcgi; and 300 processes for 300 viewers are not there at once',
		c060 => 'how soon 30 viewers have a large init: it is a process first',
	},
);
my %needs = ('proxy-fcgi' => 'mod_proxy_fcgi', 'mod-fcgid' => 'mod_fcgid');
for my $server (grep { !$ENV{SEATCAST_SERVERS} || $_ =~ $ENV{SEATCAST_SERVERS} } sort keys %server) {
	SKIP: {
		skip "$server is not installed", 1 if !have($needs{$server} // $server);
		local $ENV{SEATCAST_SERVER} = $server;		# Scenario.pm does the rest
		my @files = scenarios($server{$server}, qw(b c010 c030 c040 c060 d01 d02 d03 d04 d06));
		cmp_ok(scalar(@files), '>=', 11, "$server: " . scalar(@files) . ' scenarios');
		scenarios_pass($server, @files);
	}
}
done_testing;

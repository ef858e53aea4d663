#!/usr/bin/env perl
# The alerts and the dashboard of etc/ ask for metrics that exist, with labels that exist; promtool finds that each alert fires on
# series that mean trouble and keeps quiet on others; the manual says of each what to do.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use JSON::PP;

my $s = Scenario->new(seats => 2, lighttpd => 0);
$s->client('fan')->watch(1, 101)->expect_event('init');
my $metrics = $s->fcgi->request(path => '/metrics')->answer->{body};
my (%labels, %is);
for (split /\n/, $metrics) {
	$is{$1} = 1 if /^# TYPE (\S+)/;
	my ($name, $set) = /^(\w+)(?:\{([^}]*)\})? / or next;
	$is{$name} = 1;
	$labels{$name}{$_} = 1 for ($set // '') =~ /(\w+)=/g;
}
my %of_prometheus = map { $_ => 1 } qw(instance job);		# put on every series when it is scraped

# Names and labels in an expression that no series of ours has.
sub wrong {
	my ($expr) = @_;
	my @wrong = grep { !$is{$_} && $_ ne 'up' } $expr =~ /\b(seatcast_\w+|process_\w+|up\b)/g;
	while ($expr =~ /\b(\w+)\{([^}]*)\}/g) {
		my ($name, $set) = ($1, $2);
		push @wrong, map { "$name\{$_}" } grep { !$labels{$name}{$_} && !$of_prometheus{$_} } $set =~ /(\w+)\s*[=!]/g;
	}
	return @wrong;
}
is(join(' ', wrong('rate(seatcast_nothing_total[5m]) + seatcast_refused_total{because="x"}')), 'seatcast_nothing_total seatcast_refused_total{because}', 'the check finds what is wrong');

my $rules = Stage::slurp("$s->{stage}{src}/etc/prometheus-rules.yml");
my @alerts = $rules =~ /^\s*- alert: (\w+)/mg;
my @exprs = $rules =~ /^\s*expr: ((?:\|\n(?:\s{10,}.*\n)+)|.*)/mg;
cmp_ok(scalar @alerts, '>=', 8, @alerts . ' alerts');
is(scalar @exprs, scalar @alerts, 'each with an expression');
is(join(' ', map { wrong($_) } @exprs), '', 'of metrics that exist');
my $manual = Stage::slurp("$s->{stage}{src}/man/seatcast.8");
is(join(' ', grep { $manual !~ /^\.It Li $_$/m } @alerts), '', 'the manual says what to do about each');
is(join(' ', grep { my $it = $_; !grep { $it eq $_ } @alerts } $manual =~ /^\.It Li (Seatcast\w+)$/mg), '', '… and about no other');

my $tests = "$s->{stage}{src}/t/prometheus/rules.test.yml";
my $cases = Stage::slurp($tests);
is(join(' ', grep { $cases !~ /name: $_ fires\n/ || $cases !~ /name: $_ is quiet\n(?:.*\n)*?\s*exp_alerts: \[\]/ } @alerts), '', 'each has a case in which it fires and one in which it does not');
SKIP: {
	skip 'promtool is not installed', 1 if !grep { -x "$_/promtool" } split /:/, $ENV{PATH};
	my $said = `promtool test rules '$tests' 2>&1`;
	is($?, 0, 'promtool: they do') or diag $said;
}

my $dashboard = decode_json(Stage::slurp("$s->{stage}{src}/etc/grafana-dashboard.json"));
my @targets = map { @{$_->{targets}} } @{$dashboard->{panels}};
cmp_ok(scalar @targets, '>', 20, @targets . ' expressions of the dashboard');
is(join(' ', map { wrong($_->{expr}) } @targets), '', 'of metrics that exist');
SKIP: {
	skip 'promtool is not installed', 1 if !grep { -x "$_/promtool" } split /:/, $ENV{PATH};
	my $file = "$s->{stage}{dir}/dashboard.yml";
	open my $fh, '>', $file or die "$file: $!";
	my $n = 0;
	print $fh "groups:\n- name: dashboard\n  rules:\n";
	printf $fh "  - record: panel_%d\n    expr: '%s'\n", $n++, $_->{expr} =~ s/\$instance/.*/gr for @targets;
	close $fh;
	my $said = `promtool check rules '$file' 2>&1`;
	is($?, 0, 'promtool reads them all') or diag $said;
}
my %place;
for my $p (@{$dashboard->{panels}}) {
	my $g = $p->{gridPos};
	for my $x ($g->{x} .. $g->{x} + $g->{w} - 1) { $place{"$x $_"}++ for $g->{y} .. $g->{y} + $g->{h} - 1 }
}
is(scalar(grep { $_ > 1 } values %place), 0, 'no panel lies on another');
$s->done;

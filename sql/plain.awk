# SPDX-License-Identifier: ISC
# plain.awk: install.sql, or a changes_*.sql, as one file without psql's own commands, for migration tools (Flyway, Liquibase).
#
#     awk -v dir=sql -v version=1.2 -f sql/plain.awk sql/install.sql > seatcast-1.2.sql
#
# \ir is followed; of \if :{?seatcast_installing} the branch stays that install.sql takes, for itself and for what it includes; BEGIN
# and COMMIT go: the tool's transaction is the transaction. Any other command of psql is an error here, and not at a customer's.

function fail(what)	{ print FILENAME ": " what > "/dev/stderr"; failed = 1; exit 1 }

function add(file,	line, skip, depth) {
	print "-- ---- " file " ----"
	while ((getline line < (dir "/" file)) > 0) {
		if (line ~ /^\\ir /) {
			if (!skip)
				add(substr(line, 5))
		} else if (line ~ /^\\if :\{\?seatcast_installing\}$/)
			skip = !installing
		else if (line ~ /^\\else$/)
			skip = installing
		else if (line ~ /^\\endif$/)
			skip = 0
		else if (line ~ /^\\(set|unset) /)
			continue
		else if (line ~ /^\\/)
			fail("a command of psql: " line)
		else if (!skip && line !~ /^(BEGIN|COMMIT);$/)
			print line
	}
	close(dir "/" file)
}

BEGIN {
	file = ARGV[1]
	sub(/.*\//, "", file)
	installing = file == "install.sql"
	print "-- seatcast " version ": " file " and all that it includes, without commands of psql. Generated; run it in one transaction."
	add(file)
	exit failed
}

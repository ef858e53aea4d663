/* SPDX-License-Identifier: ISC */
/*
 * replay - run a fuzz target over its corpus, without libFuzzer.
 *
 * Arguments are files, or directories whose files are meant.  Without any, the
 * corpus of this program's name is taken: $srcdir/t/fuzz/corpus/NAME (make
 * check sets srcdir).  Speaks TAP, one test per file; a target that finds
 * something aborts.
 */
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static int	 done;

static void
give_up(const char *path)
{
	fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
	exit(2);
}

static void
replay_file(const char *path)
{
	struct stat	 st;
	uint8_t		*data;
	FILE		*in;
	size_t		 size;

	if ((in = fopen(path, "rb")) == NULL || fstat(fileno(in), &st) == -1)
		give_up(path);
	size = (size_t)st.st_size;
	if ((data = malloc(size > 0 ? size : 1)) == NULL || fread(data, 1, size, in) != size)
		give_up(path);
	fclose(in);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	printf("ok %d - %s\n", ++done, path);
	fflush(stdout);
}

static void
replay(const char *path)
{
	struct dirent	**entries;
	struct stat	  st;
	char		  file[4096];
	int		  i, n;

	if (stat(path, &st) == -1)
		give_up(path);
	if (!S_ISDIR(st.st_mode)) {
		replay_file(path);
		return;
	}
	if ((n = scandir(path, &entries, NULL, alphasort)) == -1)
		give_up(path);
	for (i = 0; i < n; i++) {
		if (entries[i]->d_name[0] != '.') {
			snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
			replay_file(file);
		}
		free(entries[i]);
	}
	free(entries);
}

int
main(int argc, char **argv)
{
	const char	*srcdir = getenv("srcdir"), *name = strrchr(argv[0], '/');
	char		 corpus[4096];
	int		 i;

	for (i = 1; i < argc; i++)
		replay(argv[i]);
	if (argc == 1) {
		snprintf(corpus, sizeof(corpus), "%s/t/fuzz/corpus/%s", srcdir != NULL ? srcdir : ".",
		    name != NULL ? name + 1 : argv[0]);
		replay(corpus);
	}
	printf("1..%d\n", done);
	return (done > 0 ? 0 : 2);
}

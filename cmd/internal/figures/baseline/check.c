/* check DIR N: opens, reads and compares N files of known content. The least that a
 * program can do to tell that they are right. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[4096], want[256], got[4096];
	int wrong = 0, n = argc > 2 ? atoi(argv[2]) : 0;
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/f%05d", argv[1], i);
		int len = snprintf(want, sizeof want, "file %05d\nis managed, and has a second line of text\n", i);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		struct stat st;
		if (fd < 0 || fstat(fd, &st) != 0 || read(fd, got, sizeof got) != len || memcmp(got, want, len) != 0)
			wrong++;
		if (fd >= 0)
			close(fd);
	}
	return wrong != 0;
}

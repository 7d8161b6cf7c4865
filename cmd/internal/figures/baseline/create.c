/* create DIR N: writes N files of known content, each to a temporary name that is then
 * renamed. The least that a program can do to put them there without a half one. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char path[4096], temp[4096], want[256];
	int n = argc > 2 ? atoi(argv[2]) : 0;
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/f%05d", argv[1], i);
		snprintf(temp, sizeof temp, "%s/.tmp%05d", argv[1], i);
		int len = snprintf(want, sizeof want, "file %05d\nis managed, and has a second line of text\n", i);
		int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd < 0 || write(fd, want, len) != len || close(fd) != 0 || rename(temp, path) != 0)
			return 1;
	}
	return 0;
}

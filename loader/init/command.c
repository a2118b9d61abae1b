/*
 * The commands that run.
 *
 * A command's life has four states:
 *
 * * free;
 * * started: its streams are connected and the process exists, but has not reported
 *   whether exec worked;
 * * running (INIT_MSG_STARTED);
 * * ended: the process is reaped, and the rest of its output goes to the host. Then it is
 *   free again (INIT_MSG_EXIT).
 *
 * The report pipe leads from started to running: exec closes it, or the process writes
 * the error there.
 *
 * Its standard streams are pipes, because a socket cannot be opened as /dev/stdout, with
 * pumps between them and the connections. With a terminal, a pseudo terminal has a pump
 * each way on the one connection. EOF on the input closes the command's pipe. On a
 * terminal it does nothing, since a terminal has no EOF: its user types one. A host that
 * closes all of a terminal's connection hangs the terminal up. init itself keeps the
 * slave open, so that the terminal exists until the command has ended.
 *
 * When the process has ended, its streams end with the bytes that they hold then, even if
 * its children still hold them open.
 */
#include "loader/init/command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "loader/init/control.h"
#include "loader/init/fd.h"
#include "loader/init/hold.h"
#include "loader/init/link.h"
#include "loader/init/process.h"

#define NUMBER_MAX 0x4000
#define TTY_LEFT_MAX (1U << 17) /* more than a terminal's buffers hold; it cannot be asked */
#define SIGNAL_BASE 128

struct command {
	bool used, started, ended;
	uint32_t number;
	pid_t pid;
	int report;	   /* from the process */
	int master, slave; /* of its terminal */
	struct pump pumps[COMMAND_STREAMS];
	char *bufs;
	unsigned long oom_kills;
	struct command_end end;
};

static struct command commands[INIT_COMMANDS_MAX];
static struct command_end first_end;
static bool first_is_over;

static struct command *command_find(uint32_t number)
{
	for (struct command *c = commands; c < commands + INIT_COMMANDS_MAX; c++) {
		if (c->used && c->number == number)
			return c;
	}
	return NULL;
}

unsigned command_count(void)
{
	unsigned count = 0;

	for (const struct command *c = commands; c < commands + INIT_COMMANDS_MAX; c++)
		count += c->used;
	return count;
}

const struct command_end *command_first(void)
{
	return first_is_over ? &first_end : NULL;
}

void command_forget_first(void)
{
	first_is_over = false;
}

/* How many processes the kernel has killed for lack of memory; 0 if it does not say. */
static unsigned long command_oom_kills(void)
{
	static char vmstat[1 << 14];
	static const char key[] = "oom_kill ";
	long len = fd_read_file("/proc/vmstat", vmstat, sizeof(vmstat));
	unsigned long count = 0;

	vmstat[len < 0 ? 0 : len] = '\0';
	for (const char *line = vmstat; line != NULL; line = strchr(line, '\n')) {
		line += line[0] == '\n';
		if (strncmp(line, key, sizeof(key) - 1) == 0)
			/* If there is no number, it has none. */
			(void)text_digits(line + sizeof(key) - 1, ULONG_MAX, &count);
	}
	return count;
}

static void command_tell(uint32_t number, const struct command_end *end)
{
	if (number == 0) {
		first_end = *end;
		first_is_over = true;
	} else {
		control_send(INIT_MSG_EXIT, number, end->status, end->flags, end->why.s);
	}
}

/* The streams end, and the slot is free. */
static void command_free(struct command *c)
{
	for (unsigned i = 0; i < COMMAND_STREAMS; i++)
		pump_close(&c->pumps[i]);
	fd_close(&c->report);
	fd_close(&c->master);
	fd_close(&c->slave);
	if (c->bufs != NULL)
		munmap(c->bufs, COMMAND_STREAMS * PUMP_BYTES);
	c->used = false;
}

static void command_set_pump(struct command *c, unsigned i, int from, int to)
{
	c->pumps[i] = (struct pump){ .from = from, .to = to, .buf = c->bufs + i * PUMP_BYTES };
	fd_unblock(from);
	fd_unblock(to);
}

/* A pipe and a connection for each stream; the process's ends go to fds. 0 or -errno. */
static int command_open_pipes(struct command *c, int *fds)
{
	for (unsigned i = 0; i < COMMAND_STREAMS; i++) {
		int ends[2], link = link_connect(INIT_STREAM_PORT(c->number, i));
		bool is_input = i == 0;

		if (link < 0)
			return link;
		if (pipe2(ends, O_CLOEXEC) < 0) {
			int error = errno;

			close(link);
			return -error;
		}
		fds[i] = ends[is_input ? 0 : 1];
		if (is_input)
			command_set_pump(c, i, link, ends[1]);
		else
			command_set_pump(c, i, ends[0], link);
	}
	return 0;
}

/* A terminal, of the size that follows the letter, if any: ROWSxCOLUMNS. 0 or -errno. */
static int command_open_tty(struct command *c, const char *size)
{
	struct termios mode;
	struct winsize wins = { 0 };
	unsigned long rows, columns;
	const char *by;
	int link, more[2], unlock = 0;

	c->master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->master < 0 || ioctl(c->master, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	c->slave = ioctl(c->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->slave < 0)
		return -errno;
	if (tcgetattr(c->slave, &mode) == 0) {
		mode.c_iflag |= IUTF8;
		/* Only how a character is erased depends on it. */
		(void)tcsetattr(c->slave, TCSANOW, &mode);
	}
	by = text_digits(size, USHRT_MAX, &rows);
	if (by != NULL && *by == 'x' && text_number(by + 1, USHRT_MAX, &columns))
		wins = (struct winsize){ .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };
	/* Like a terminal that does not know its size, if this is none. */
	(void)ioctl(c->master, TIOCSWINSZ, &wins);
	link = link_connect(INIT_STREAM_PORT(c->number, 0));
	if (link < 0)
		return link;
	more[0] = fcntl(link, F_DUPFD_CLOEXEC, 3);
	more[1] = fcntl(c->master, F_DUPFD_CLOEXEC, 3);
	command_set_pump(c, 0, link, c->master);
	command_set_pump(c, 1, more[1], more[0]);
	c->master = -1;
	return more[0] < 0 || more[1] < 0 ? -EMFILE : 0;
}

/* In case of failure, what there is of it is left for command_free(). */
static int command_fork(struct command *c, struct process *process)
{
	int report[2];

	if (pipe2(report, O_CLOEXEC) < 0)
		return -errno;
	c->report = report[0];
	process->report = report[1];
	c->pid = hold_fork();
	if (c->pid == 0)
		process_run(process);
	if (c->pid < 0)
		c->pid = -errno;
	close(report[1]);
	fd_unblock(c->report);
	return c->pid < 0 ? c->pid : 0;
}

static void command_cannot(struct command *c, const char *what, int error)
{
	c->end.status = PROCESS_NOT_RUN;
	text_add(&c->end.why, what, NULL);
	text_add_error(&c->end.why, error);
	command_tell(c->number, &c->end);
	command_free(c);
}

static struct command *command_new(uint32_t number)
{
	struct command *c = commands;

	/*
	 * The host reused a number that is in use. It could not tell two answers apart,
	 * so there is none.
	 */
	if (number >= NUMBER_MAX || command_find(number) != NULL)
		return NULL;
	while (c < commands + INIT_COMMANDS_MAX && c->used)
		c++;
	if (c == commands + INIT_COMMANDS_MAX) {
		control_send(INIT_MSG_EXIT, number, PROCESS_NOT_RUN, 0, "too many commands run already");
		return NULL;
	}
	*c = (struct command){ .used = true, .number = number, .report = -1, .master = -1, .slave = -1 };
	for (unsigned i = 0; i < COMMAND_STREAMS; i++)
		c->pumps[i] = (struct pump){ .from = -1, .to = -1 };
	c->oom_kills = command_oom_kills();
	return c;
}

void command_start(uint32_t number, const char *list, size_t len)
{
	struct process process = { .list = list, .len = len, .fds = { -1, -1, -1 } };
	const char *tty = text_find(list, len, 't');
	struct command *c = command_new(number);
	int ret;

	if (c == NULL)
		return;
	c->bufs = mmap(NULL, COMMAND_STREAMS * PUMP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->bufs == MAP_FAILED) {
		c->bufs = NULL;
		command_cannot(c, "the command's buffers", errno);
		return;
	}
	process.tty = tty != NULL;
	ret = process.tty ? command_open_tty(c, tty) : command_open_pipes(c, process.fds);
	if (ret < 0) {
		command_cannot(c, process.tty ? "the command's terminal" : "the command's streams", -ret);
	} else {
		if (process.tty)
			process.fds[0] = process.fds[1] = process.fds[2] = c->slave;
		ret = command_fork(c, &process);
		if (ret < 0)
			command_cannot(c, "a process for the command", -ret);
	}
	for (unsigned i = 0; !process.tty && i < COMMAND_STREAMS; i++)
		fd_close(&process.fds[i]);
}

void command_start_on_console(const char *list, size_t len)
{
	/* Not as the controlling terminal: the kernel throws away what a serial port has not sent yet when that ends. */
	struct process process = { .list = list, .len = len };
	struct command *c = command_new(0);
	int ret;

	if (c == NULL)
		return;
	c->slave = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->slave < 0) {
		command_cannot(c, "/dev/console", errno);
		return;
	}
	process.fds[0] = process.fds[1] = process.fds[2] = c->slave;
	ret = command_fork(c, &process);
	if (ret < 0)
		command_cannot(c, "a process for the command", -ret);
}

void command_retire(void)
{
	struct command *c = command_find(0);
	uint32_t number = NUMBER_MAX - 1;

	while (command_find(number) != NULL)
		number--;
	if (c != NULL)
		c->number = number;
}

/* For a stream that the host does not have: input that never comes, output that goes nowhere. */
static int command_connect_nowhere(unsigned stream)
{
	return stream == 0 ? eventfd(0, EFD_CLOEXEC) : open("/dev/null", O_WRONLY | O_CLOEXEC);
}

/* Whether it was made after the reset, by a command that was about to start. The host lends each socket once. */
static bool command_has_stream(const struct command *c, int link)
{
	return c->number == 0 && send(link, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) == 0;
}

/* Keeps the pumps: a connection takes the descriptor of the one that it replaces. One that has ended ends again. */
static void command_reconnect_stream(const struct command *c, unsigned i)
{
	int old = i == 0 ? c->pumps[i].from : c->pumps[i].to, link;

	if (c->bufs == NULL || (old >= 0 && command_has_stream(c, old)))
		return;
	link = link_connect(INIT_STREAM_PORT(c->number, i));
	if (old >= 0 && link < 0)
		link = command_connect_nowhere(i);
	if (old >= 0 && link >= 0) {
		fd_unblock(link);
		/* Cannot fail; and else the stream ends, as without a host. */
		(void)dup3(link, old, O_CLOEXEC);
	}
	fd_close(&link);
}

void command_reconnect(void)
{
	for (struct command *c = commands; c < commands + INIT_COMMANDS_MAX; c++) {
		for (unsigned i = 0; c->used && i < COMMAND_STREAMS; i++) {
			command_reconnect_stream(c, i);
			c->pumps[i].failed = false;
		}
		if (c->used && c->started)
			control_send(INIT_MSG_STARTED, c->number, 0, 0, NULL);
	}
}

void command_signal(uint32_t number, int signal, bool alone)
{
	const struct command *c = command_find(number);

	/*
	 * The process may not have made its group yet. If it has exited, nothing is left
	 * to signal.
	 */
	if (c != NULL && !c->ended && (alone || kill(-c->pid, signal) < 0))
		(void)kill(c->pid, signal);
}

void command_resize(uint32_t number, uint32_t size)
{
	const struct winsize wins = { .ws_row = (unsigned short)(size >> 16), .ws_col = (unsigned short)size };
	const struct command *c = command_find(number);

	/* It has a terminal, or does not mind. */
	if (c != NULL)
		(void)ioctl(c->slave, TIOCSWINSZ, &wins);
}

/* Reads what the process has to say; its end is that of the start. */
static void command_listen(struct command *c)
{
	char said[sizeof(c->end.why.s)];
	ssize_t n = read(c->report, said, sizeof(said) - 1);

	if (n < 0)
		return;
	if (n > 0) {
		/* The very first byte is the status, which is never 0. */
		size_t skip = c->end.status == 0 ? 1 : 0;

		if (skip > 0)
			c->end.status = (unsigned char)said[0];
		said[n] = '\0';
		text_add(&c->end.why, said + skip, NULL);
		return;
	}
	fd_close(&c->report);
	if (c->end.status == 0) {
		c->started = true;
		control_send(INIT_MSG_STARTED, c->number, 0, 0, NULL);
	}
}

static bool command_is_over(const struct command *c)
{
	return c->ended && pump_is_over(&c->pumps[0]) && pump_is_over(&c->pumps[1]) && pump_is_over(&c->pumps[2]);
}

static void command_finish(struct command *c)
{
	if (command_oom_kills() != c->oom_kills)
		c->end.flags |= INIT_OOM;
	/* First the ends of the streams, then the message. */
	command_free(c);
	command_tell(c->number, &c->end);
}

void command_reaped(pid_t pid, int status)
{
	struct command *c = commands;

	while (c < commands + INIT_COMMANDS_MAX && !(c->used && !c->ended && c->pid == pid))
		c++;
	if (c == commands + INIT_COMMANDS_MAX)
		return;
	while (c->report >= 0)
		command_listen(c);
	c->ended = true;
	if (c->started && WIFSIGNALED(status)) {
		c->end.status = SIGNAL_BASE + (uint32_t)WTERMSIG(status);
		c->end.flags = INIT_SIGNALLED;
	} else if (c->started) {
		c->end.status = (uint32_t)WEXITSTATUS(status);
	}
	pump_close(&c->pumps[0]);
	for (unsigned i = 1; i < COMMAND_STREAMS; i++) {
		const struct pollfd none[PUMP_POLLS] = { 0 };
		int left = TTY_LEFT_MAX;

		/*
		 * A pipe reports how much it holds; a terminal passes its data on in the
		 * background.
		 */
		if (c->slave < 0 && !pump_is_over(&c->pumps[i]) && ioctl(c->pumps[i].from, FIONREAD, &left) < 0)
			left = 0;
		pump_end(&c->pumps[i], (uint32_t)left);
		pump_turn(&c->pumps[i], none);
	}
	if (command_is_over(c))
		command_finish(c);
}

size_t command_polls(struct pollfd *polls)
{
	size_t count = 0;

	for (const struct command *c = commands; c < commands + INIT_COMMANDS_MAX; c++) {
		if (!c->used)
			continue;
		polls[count++] = (struct pollfd){ .fd = c->report, .events = POLLIN };
		for (unsigned i = 0; i < COMMAND_STREAMS; i++, count += PUMP_POLLS)
			pump_polls(&c->pumps[i], &polls[count]);
	}
	return count;
}

bool command_has_failed(void)
{
	bool failed = false;

	for (const struct command *c = commands; c < commands + INIT_COMMANDS_MAX; c++) {
		for (unsigned i = 0; c->used && i < COMMAND_STREAMS; i++)
			failed |= c->pumps[i].failed;
	}
	return failed;
}

void command_turn(const struct pollfd *polls)
{
	for (struct command *c = commands; c < commands + INIT_COMMANDS_MAX; c++) {
		if (!c->used)
			continue;
		if (polls[0].revents != 0)
			command_listen(c);
		polls++;
		for (unsigned i = 0; i < COMMAND_STREAMS; i++, polls += PUMP_POLLS) {
			if (c->pumps[i].failed)
				pump_close(&c->pumps[i]);
			else
				pump_turn(&c->pumps[i], polls);
		}
		if (command_is_over(c))
			command_finish(c);
	}
}

/*
 * First process of the guest: loads modules, mounts the host's file system, runs one program in it, and ends the machine.
 *
 * The root is the host's, read-only over 9p, so the program finds the same Node, libraries, tools and project at the same
 * paths. /dev, /proc, /sys, /run and /tmp are the guest's own. The program's output goes to the second serial port, and
 * when it has ended a last line: {"exit": STATUS}, as wait(2) has it. The first port is the kernel's console.
 *
 * In the initramfs: /modules/ (loaded in the order of their names), /command (working directory, then the program and its
 * arguments, one a line).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { MAX_LINES = 16, MAX_LINE = 4096 };

static void complain(const char *what) { printf("init: %s: %s\n", what, strerror(errno)); }

/* Without a program nothing is to be done: the host sees the console and no last line. */
static void give_up(const char *what) {
  complain(what);
  reboot(RB_AUTOBOOT);
}

static void mount_at(const char *type, const char *path, unsigned long flags, const char *options) {
  mkdir(path, 0755);
  if (mount(type, path, type, flags, options) != 0) complain(path);
}

static int is_module(const struct dirent *entry) { return strstr(entry->d_name, ".ko") != NULL; }

static void load_modules(void) {
  struct dirent **entries;
  int count = scandir("/modules", &entries, is_module, alphasort);
  for (int i = 0; i < count; i++) {
    char path[512];
    snprintf(path, sizeof(path), "/modules/%s", entries[i]->d_name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) complain(path);
    close(fd);
  }
}

/* Lines of /command in `lines`, ended by NULL. */
static void read_command(char *lines[]) {
  FILE *file = fopen("/command", "re");
  if (!file) give_up("/command");
  int count = 0;
  static char buffer[MAX_LINES][MAX_LINE];
  while (count < MAX_LINES - 1 && fgets(buffer[count], MAX_LINE, file)) {
    buffer[count][strcspn(buffer[count], "\n")] = '\0';
    lines[count] = buffer[count];
    count++;
  }
  lines[count] = NULL;
  if (count < 2) give_up("/command is too short");
  fclose(file);
}

/* Makes `path` and what is above it, as far as they are missing and can be made. */
static void make_directories(char *path) {
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    mkdir(path, 0755);
    *slash = '/';
  }
  mkdir(path, 0755);
}

/* The second serial port, without any translation of what is written. */
static int open_output(void) {
  int fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
  struct termios settings;
  if (fd < 0 || tcgetattr(fd, &settings) != 0) give_up("/dev/ttyS1");
  cfmakeraw(&settings);
  if (tcsetattr(fd, TCSANOW, &settings) != 0) complain("/dev/ttyS1");
  return fd;
}

int main(void) {
  char *command[MAX_LINES];
  setvbuf(stdout, NULL, _IONBF, 0);
  mount_at("devtmpfs", "/dev", 0, NULL);
  load_modules();
  read_command(command);
  mkdir("/root", 0755);
  if (mount("root", "/root", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=524288,cache=loose") != 0)
    give_up("the host's file system");
  /* The project may itself be in /tmp or /run, which are covered below. */
  char project[MAX_LINE + 8];
  snprintf(project, sizeof(project), "/root%s", command[0]);
  mkdir("/project", 0755);
  if (mount(project, "/project", NULL, MS_BIND, NULL) != 0) give_up(project);
  mount_at("proc", "/root/proc", 0, NULL);
  mount_at("sysfs", "/root/sys", 0, NULL);
  mount_at("bpf", "/root/sys/fs/bpf", 0, NULL);
  mount_at("devtmpfs", "/root/dev", 0, NULL);
  mount_at("tmpfs", "/root/run", 0, "mode=0755");
  mount_at("tmpfs", "/root/tmp", 0, "mode=1777");
  make_directories(project);
  if (mount("/project", project, NULL, MS_BIND, NULL) != 0) give_up(project);
  if (chroot("/root") != 0 || chdir(command[0]) != 0) give_up(command[0]);

  int output = open_output();
  pid_t child = fork();
  if (child == 0) {
    int input = open("/dev/null", O_RDONLY);
    dup2(input, 0);
    dup2(output, 1);
    dup2(output, 2);
    setsid();
    char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LC_ALL=C", NULL};
    execve(command[1], command + 1, environment);
    complain(command[1]);
    _exit(127);
  }
  int status = 0;
  /* Orphans come to this process as well. */
  for (pid_t ended = 0; child > 0 && ended != child;) ended = waitpid(-1, &status, 0);
  dprintf(output, "\n{\"exit\": %d}\n", status);
  tcdrain(output);
  reboot(RB_AUTOBOOT);
  return 1;
}

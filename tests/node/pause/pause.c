/* What holds a Pod's namespaces: does nothing until it is told to end. */
#include <signal.h>
#include <unistd.h>

static void end(int number) { _exit(number == SIGTERM || number == SIGINT ? 0 : 1); }

int main(void) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    for (;;) pause();
}

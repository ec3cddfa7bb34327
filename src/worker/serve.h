/* The worker process: one engine with its conversations, at the daemon's service. */
#ifndef WORKER_SERVE_H
#define WORKER_SERVE_H

/* `hearth worker`, which nobody but the daemon starts: speaks on WORKER_CONTROL_FD until it is told
 * to end or the daemon is gone. Returns the exit code. */
int worker_run(void);

#endif

"""The commands of a study, one after another, and how they are stopped."""
import contextlib
import os
import shutil
import signal
import subprocess

from command_line.program import exit_code, kinship, on_ranks
from command_line.refused import STOPS, TRY_AGAIN, Refused


class Jobs:
    """Runs one command after another, and passes a signal to stop on to the one that runs."""

    def __init__(self, ranks: int):
        self.ranks, self.current, self.stopped = ranks, None, False
        self.kinship = kinship()
        for number in STOPS:
            # A study that was started by nohup goes on when its terminal is closed.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.stop)
        # Should this process be killed outright, the ranks stop too, where the system can do that.
        probe = shutil.which("setpriv") and subprocess.run(["setpriv", "--pdeathsig", "clear", "true"], check=False)
        self.guard = ["setpriv", "--pdeathsig", "USR1"] if probe and probe.returncode == 0 else []

    def stop(self, *_):
        self.stopped = True
        if self.current and self.current.poll() is None:
            # A shell would leave its own commands running; a launcher passes the request on itself.
            send = os.killpg if self.request == signal.SIGTERM else os.kill
            # It may have ended between the two lines.
            with contextlib.suppress(ProcessLookupError):
                send(self.current.pid, self.request)

    def run(self, command, request=signal.SIGTERM, **options) -> int:
        """Returns a command's exit code. It runs in a session of its own, so that Ctrl-C reaches it as `request` only.
        Throws if a stop was asked for."""
        if not self.stopped:
            self.request = request
            self.current = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
            if self.stopped:
                self.stop()
            self.current.wait()
        if self.stopped:
            raise Refused("stopped; run the same command again to go on", TRY_AGAIN)
        return exit_code(self.current.returncode)

    def on_ranks(self, *words, purpose: str):
        """Runs a kinship command. At USR1 a training run saves and stops. Where there are fewer cores than ranks, these
        share them, unbound."""
        # Under Slurm the ranks may be on several hosts, and it says on which.
        threads = os.environ.get("SLURM_CPUS_PER_TASK") or "1" if "SLURM_JOB_ID" in os.environ else None
        launcher = on_ranks(self.kinship, self.ranks, threads)
        code = self.run([*self.guard, *launcher, *words], signal.SIGUSR1)
        if code != 0:
            raise Refused(f"{purpose}: kinship {words[0]} ended with exit code {code}; its message is above", code)

"""What the exit status of ``gatewayfs`` means. docs/cli.md has the same table; a test compares them."""

OK = 0
FAILURE = 1
USAGE = 2
NOT_RUNNING = 3
UNREACHABLE = 4
WORK_LEFT = 5
FINDINGS = 6
INTERRUPTED = 130
OUTPUT_CLOSED = 141

MEANINGS = {
    OK: "done",
    FAILURE: "failed; the last line on standard error says why",
    USAGE: "a mistake in the arguments or the configuration; nothing was done",
    NOT_RUNNING: "no gateway is mounted there, or it is not running any more",
    UNREACHABLE: "the bucket's store cannot be reached, or is too busy to answer",
    WORK_LEFT: "some changes are not in the bucket yet; they stay queued",
    FINDINGS: "`check` found disagreements, `doctor` found warnings but nothing that fails",
    INTERRUPTED: "interrupted (Ctrl-C)",
    OUTPUT_CLOSED: "whoever read the output went away",
}

"""Crash tests: what a writer was told is done stays done, whatever happens to the daemon or the machine's power.

steps       what a writer does, one step at a time, and what each step does to a tree (the model)
ledger      reads the writer's log and says what must be there; steps under way may have happened or not
drivers     carry steps out, through a mount or through ``gatewayfs.vfs`` in this process
zygote      a process with everything imported that forks daemons and writers in milliseconds
rig         a share without a kernel: records, cache, uploader and file system around any store
storeserver one bucket in the test's own process, which outlives the children that use it
powerloss.c records what a process did to a disk; ``disklog`` rebuilds what a power loss may leave of it
"""

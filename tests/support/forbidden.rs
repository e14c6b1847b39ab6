//! System calls that a thread, and those that it starts, may not make.

/// Lets the calling thread, and those that it starts from now on, make every system call but `call`, which fails with EPERM.
/// False where the kernel lets no thread filter its system calls.
pub(crate) fn forbid(call: libc::c_long) -> bool {
    let (load, equal, give) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET);
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut steps = [
        // The number of the call is at the beginning of what the filter sees.
        step(load, 0, 0, 0),
        step(equal, 0, 1, call as u32),
        step(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: takes numbers only; it forbids this thread to gain privileges.
    let confined = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0;
    // SAFETY: the program outlives the call, which copies it.
    confined && unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } == 0
}

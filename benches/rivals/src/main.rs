//! ringmain beside the channels people use today.
fn main() {}

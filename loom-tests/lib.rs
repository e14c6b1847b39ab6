//! Models of ringmain's concurrent structures.

//! How many answers are enough: the pure coordinators of sloppy puts and gets.

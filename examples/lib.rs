//! Nothing: the examples stand beside this file, one runnable program each.

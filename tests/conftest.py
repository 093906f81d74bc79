"""For all tests: who starts them in the background has SIGINT and SIGHUP ignored, and so would the programs that are to
end by them."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

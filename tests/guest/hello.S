# Says hello, if it was started by the 64-bit Linux protocol, and resets.
.include "flat.inc"
.set BOOT_PARAMS_HEADER, 0x202
start:
	cmpl $0x53726448, BOOT_PARAMS_HEADER(%rsi)	# "HdrS"
	jne 1f
	puts "hello\n"
	reset
1:	wrong "rsi does not point to boot_params"

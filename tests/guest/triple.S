# Crashes: there is no IDT, so the first exception becomes a double and then a triple fault.
.include "flat.inc"
start:
	ud2

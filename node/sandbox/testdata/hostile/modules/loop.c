// loop: never ends. The node must stop it at the deadline.
int main(void) {
	for (volatile unsigned long n = 0;; n++) {
	}
}

// flood-stdout: answers without end. The node must stop it at the limit for
// answers, and keep no more than that.
#include "flood.h"

int main(void) {
	for (;;) flood(1);
}

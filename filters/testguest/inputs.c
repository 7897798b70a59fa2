// inputs: answers with the granted datasets, one a line as "name dir", and
// then with each input as two netstrings, a line each. It is the test of
// sdk/c/liop.h.
#include "../sdk/c/liop.h"

static void put(const unsigned char *p, size_t n) {
	printf("%zu:", n);
	fwrite(p, 1, n, stdout);
	puts(",");
}

int main(void) {
	liop_dataset *sets;
	size_t n = liop_datasets(&sets);
	for (size_t i = 0; i < n; i++) printf("%s %s\n", sets[i].name, sets[i].dir);
	liop_input *inputs;
	n = liop_inputs(&inputs);
	for (size_t i = 0; i < n; i++) {
		put(inputs[i].key, inputs[i].key_len);
		put(inputs[i].value, inputs[i].value_len);
	}
	return 0;
}

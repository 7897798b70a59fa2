package oracle

// A builder collects the sections of a module (core specification, §5.5).
type builder struct {
	types    [][]byte
	typeOf   map[string]uint32
	imports  [][]byte
	funcs    []uint32 // type of each defined function
	tables   [][]byte
	memory   []byte
	globals  [][]byte
	exports  [][]byte
	start    int // function index, or -1
	elements [][]byte
	bodies   [][]byte
	data     [][]byte
}

func (b *builder) typ(params, results []valType) uint32 {
	enc := []byte{0x60}
	for _, ts := range [][]valType{params, results} {
		enc = u32(enc, uint32(len(ts)))
		for _, t := range ts {
			enc = append(enc, byte(t))
		}
	}
	i, ok := b.typeOf[string(enc)]
	if !ok {
		i = uint32(len(b.types))
		b.types = append(b.types, enc)
		b.typeOf[string(enc)] = i
	}
	return i
}

func (b *builder) encode() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) {
		out = append(out, id)
		out = u32(out, uint32(len(body)))
		out = append(out, body...)
	}
	vector := func(id byte, items [][]byte) {
		if len(items) == 0 {
			return
		}
		body := u32(nil, uint32(len(items)))
		for _, it := range items {
			body = append(body, it...)
		}
		section(id, body)
	}
	vector(1, b.types)
	vector(2, b.imports)
	funcs := u32(nil, uint32(len(b.funcs)))
	for _, t := range b.funcs {
		funcs = u32(funcs, t)
	}
	section(3, funcs)
	vector(4, b.tables)
	vector(5, [][]byte{b.memory})
	vector(6, b.globals)
	vector(7, b.exports)
	if b.start >= 0 {
		section(8, u32(nil, uint32(b.start)))
	}
	vector(9, b.elements)
	section(12, u32(nil, uint32(len(b.data))))
	var code [][]byte
	for _, body := range b.bodies {
		code = append(code, append(u32(nil, uint32(len(body))), body...))
	}
	vector(10, code)
	vector(11, b.data)
	return out
}

// u32 appends v as unsigned LEB128.
func u32(b []byte, v uint32) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// s64 appends v as signed LEB128.
func s64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func name(b []byte, s string) []byte { return append(u32(b, uint32(len(s))), s...) }

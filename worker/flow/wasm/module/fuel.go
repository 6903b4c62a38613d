package module

// Opcodes that the rewrite looks at.
const (
	opUnreachable, opBlock, opLoop, opIf, opElse, opEnd = 0x00, 0x02, 0x03, 0x04, 0x05, 0x0b
	opBr, opBrIf, opBrTable, opReturn                   = 0x0c, 0x0d, 0x0e, 0x0f
	opCall, opCallIndirect, opSelectT                   = 0x10, 0x11, 0x1c
	opLocalGet, opLocalSet, opLocalTee                  = 0x20, 0x21, 0x22
	opGlobalGet, opGlobalSet                            = 0x23, 0x24
	opI32Const, opI64Const, opF32Const, opF64Const      = 0x41, 0x42, 0x43, 0x44
	opI64LtS, opI64Sub                                  = 0x53, 0x7d
	opRefNull, opRefIsNull, opRefFunc                   = 0xd0, 0xd1, 0xd2
	opPrefixFC                                          = 0xfc
	void, i64                                           = 0x40, 0x7e
)

// A scope is an open block, loop or if.
type scope struct {
	op byte
	id int // unique in the function
	dispatch
}

// Go compiles each function into one loop that begins with a jump table over a local variable: it sets the local
// and branches to the loop even to go forward. A dispatch is such a loop's table.
type dispatch struct {
	local   uint32
	targets []place // the last one is the default
}

// A place is a scope by its depth in the stack of open scopes; the scope has gone when another id is there.
type place struct{ depth, id int }

// A fueller copies a function's instructions and puts fuel checks in: at the start of a function that calls
// others, and at every branch back to a loop. So whatever runs without end burns fuel: a run without end has
// infinitely many branches back or calls. A branch to a Go dispatch loop that can only go forward burns none.
type fueller struct {
	r      *reader
	out    []byte
	check  []byte // the instructions of one check
	scopes []scope
	ids    int
	calls  bool

	constant int64  // value of the i32.const two instructions ago, if settled
	settled  bool   // the last two instructions were i32.const, local.set
	local    uint32 // what that local.set set
	sawConst bool   // the last instruction was i32.const
}

// function rewrites one function body. The parameters' number tells the index of the local that is added.
func function(body []byte, params int, fuel, yield uint32) ([]byte, error) {
	r := &reader{p: body}
	groups, local := r.count("groups of locals", maxLocals), uint64(params)
	declared := r.off
	for range groups {
		local += uint64(r.u32())
		r.byte()
	}
	if local > maxLocals {
		r.fail("function with %d locals", local)
	}
	locals := body[declared:min(r.off, len(body))]
	f := &fueller{r: r, check: checkFuel(fuel, yield, uint32(local)), out: make([]byte, 0, len(body)*2)}
	f.open(opBlock)
	for r.err == nil && len(f.scopes) > 0 {
		f.instruction()
	}
	if r.err == nil && r.left() > 0 {
		r.fail("function with %d octets after its end", r.left())
	}
	if r.err != nil {
		return nil, r.err
	}
	out := make([]byte, 0, len(locals)+len(f.out)+len(f.check)+8)
	out = appendU32(out, uint32(groups)+1)
	out = append(out, locals...)
	out = append(out, 1, i64)
	if f.calls {
		out = append(out, f.check...)
	}
	return append(out, f.out...), nil
}

// checkFuel takes one unit and yields to the host when there is none left. It leaves the operand stack alone.
func checkFuel(fuel, yield, local uint32) []byte {
	b := appendU32([]byte{opGlobalGet}, fuel)
	b = append(b, opI64Const, 1, opI64Sub, opLocalTee)
	b = appendU32(b, local)
	b = appendU32(append(b, opGlobalSet), fuel)
	b = appendU32(append(b, opLocalGet), local)
	b = append(b, opI64Const, 0, opI64LtS, opIf, void, opCall)
	b = appendU32(b, yield)
	return append(b, opEnd)
}

func (f *fueller) open(op byte) {
	f.ids++
	f.scopes = append(f.scopes, scope{op: op, id: f.ids})
}

// target is the scope that a branch of so many levels goes to.
func (f *fueller) target(levels uint32) *scope {
	if uint64(levels) >= uint64(len(f.scopes)) {
		f.r.fail("branch over %d levels of %d", levels, len(f.scopes))
		return &scope{}
	}
	return &f.scopes[len(f.scopes)-1-int(levels)]
}

func (f *fueller) instruction() {
	r, start := f.r, f.r.off
	op := r.byte()
	burns, sawConst, settled := false, false, false
	switch op {
	case opBlock, opLoop, opIf:
		r.signed(5)
		f.open(op)
		if op == opLoop {
			f.findDispatch()
		}
	case opEnd:
		f.scopes = f.scopes[:len(f.scopes)-1]
	case opBr, opBrIf:
		t := f.target(r.u32())
		burns = t.op == opLoop && !f.forward(t)
	case opBrTable:
		for range r.count("branch targets", maxFunctions) + 1 {
			burns = f.target(r.u32()).op == opLoop || burns
		}
	case opCall:
		f.calls = true
		r.u32()
	case opCallIndirect:
		f.calls = true
		r.u32()
		r.u32()
	case opI32Const:
		f.constant, sawConst = r.signed(5), true
	case opLocalSet:
		f.local = r.u32()
		settled = f.sawConst
	default:
		immediates(r, op)
	}
	f.sawConst, f.settled = sawConst, settled
	if burns {
		f.out = append(f.out, f.check...)
	}
	f.out = append(f.out, r.p[start:r.off]...)
}

// forward tells whether a branch to a dispatch loop ends up further down in the code. The local was just set to a
// constant, the loop does nothing but jump by that local, and the block that it jumps to the end of is still open.
func (f *fueller) forward(loop *scope) bool {
	if !f.settled || loop.targets == nil || loop.local != f.local {
		return false
	}
	i := len(loop.targets) - 1
	if f.constant >= 0 && f.constant < int64(i) {
		i = int(f.constant)
	}
	t := loop.targets[i]
	return t.depth < len(f.scopes) && f.scopes[t.depth].id == t.id && f.scopes[t.depth].op == opBlock
}

// findDispatch looks ahead, without consuming, whether the loop just opened is: block*, local.get, br_table.
func (f *fueller) findDispatch() {
	r, loop := &reader{p: f.r.p, off: f.r.off}, len(f.scopes)-1
	blocks := 0
	op := r.byte()
	for ; op == opBlock; op = r.byte() {
		if r.signed(5); r.err != nil {
			return
		}
		blocks++
	}
	if op != opLocalGet || blocks == 0 {
		return
	}
	d := dispatch{local: r.u32()}
	if r.byte() != opBrTable {
		return
	}
	for range r.count("branch targets", maxFunctions) + 1 {
		depth := loop + blocks - int(r.u32())
		id := 0
		switch {
		case r.err != nil || depth < 0:
			return // the walk proper will say what is wrong
		case depth > loop:
			id = f.ids + depth - loop // the ids that the blocks will get
		default:
			id = f.scopes[depth].id
		}
		d.targets = append(d.targets, place{depth, id})
	}
	f.scopes[loop].dispatch = d
}

// immediates skips what follows an opcode that the rewrite does not care about.
func immediates(r *reader, op byte) {
	switch {
	case op == opSelectT:
		r.take(uint32(r.count("types of a select", 100)))
	case op >= opLocalGet && op <= 0x26, op == opRefFunc:
		r.u32()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.u32()
		r.u32()
	case op == 0x3f, op == 0x40, op == opRefNull:
		r.byte()
	case op == opI64Const:
		r.signed(10)
	case op == opF32Const:
		r.take(4)
	case op == opF64Const:
		r.take(8)
	case op == opPrefixFC:
		prefixed(r)
	case op <= 0x01, op == opElse, op == opReturn, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == opRefIsNull:
	default:
		r.fail("instruction %#x is not supported (tail calls, threads, exceptions and SIMD are not)", op)
	}
}

// prefixed skips saturating conversions, bulk memory and table instructions.
func prefixed(r *reader) {
	switch sub := r.u32(); {
	case sub <= 7:
	case sub == 8:
		r.u32()
		r.byte()
	case sub == 9, sub == 13, sub >= 15 && sub <= 17:
		r.u32()
	case sub == 10:
		r.byte()
		r.byte()
	case sub == 11:
		r.byte()
	case sub == 12, sub == 14:
		r.u32()
		r.u32()
	default:
		r.fail("instruction 0xfc %d is not supported", sub)
	}
}

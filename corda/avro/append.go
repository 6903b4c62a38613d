package avro

// AppendLong appends a zig-zag varint in its minimal form, which is the only form that may be signed.
func AppendLong(b []byte, n int64) []byte {
	u := uint64(n)<<1 ^ uint64(n>>63)
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}

// AppendBytes appends a bytes field.
func AppendBytes(b, field []byte) []byte { return append(AppendLong(b, int64(len(field))), field...) }

// AppendString appends a string field.
func AppendString(b []byte, field string) []byte {
	return append(AppendLong(b, int64(len(field))), field...)
}

// AppendArray appends an array as the one block that Java writes, or the empty array. Other forms read back alike but
// break signatures, because Java encodes again what it checks (spec/p2p-wire.md 1.1).
func AppendArray[T any](b []byte, items []T, appendItem func([]byte, T) []byte) []byte {
	if len(items) > 0 {
		b = AppendLong(b, int64(len(items)))
		for _, item := range items {
			b = appendItem(b, item)
		}
	}
	return AppendLong(b, 0)
}

// AppendOptionalString appends a union of null and string.
func AppendOptionalString(b []byte, field Optional[string]) []byte {
	if !field.Set {
		return AppendLong(b, 0)
	}
	return AppendString(AppendLong(b, 1), field.Value)
}

// AppendOptionalLong appends a union of null and long.
func AppendOptionalLong(b []byte, field Optional[int64]) []byte {
	if !field.Set {
		return AppendLong(b, 0)
	}
	return AppendLong(AppendLong(b, 1), field.Value)
}

//go:build linux && cgo

package main

import (
	"bufio"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What the filters stats and grep do, as native Go programs that do no more
// than the table needs: integers, and for statsFast no quoted cells.

// tally is a group of rows, under the names that stats gives its members.
type tally struct {
	Rows    int64 `json:"count"`
	Skipped int64 `json:"skipped"` // cells that are not a number
	Sum     int64 `json:"sum"`
	Min     int64 `json:"min"`
	Max     int64 `json:"max"`
}

func (t *tally) add(v int64, ok bool) {
	t.Rows++
	if !ok {
		t.Skipped++
		return
	}
	if t.Rows-t.Skipped == 1 {
		t.Min, t.Max = v, v
	}
	t.Sum += v
	t.Min, t.Max = min(t.Min, v), max(t.Max, v)
}

// tallyOf is the group of a key, made if it is new.
func tallyOf(groups map[string]*tally, key []byte) *tally {
	t := groups[string(key)] // no allocation
	if t == nil {
		t = &tally{}
		groups[string(key)] = t
	}
	return t
}

// statsCSV is the program that most would write: encoding/csv, with its one
// fast setting, and strconv.
func statsCSV(file, by, column string) (map[string]*tally, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(bufio.NewReaderSize(f, 256<<10))
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		return nil, err
	}
	byAt, colAt, err := columns(slices.Clone(header), by, column)
	if err != nil {
		return nil, err
	}
	groups := map[string]*tally{}
	for {
		rec, err := r.Read()
		if err == io.EOF {
			return groups, nil
		}
		if err != nil {
			return nil, err
		}
		t := groups[rec[byAt]]
		if t == nil {
			t = &tally{}
			groups[strings.Clone(rec[byAt])] = t
		}
		v, err := strconv.ParseInt(rec[colAt], 10, 64)
		t.add(v, err == nil)
	}
}

func columns(header []string, by, column string) (byAt, colAt int, err error) {
	byAt, colAt = slices.Index(header, by), slices.Index(header, column)
	if byAt < 0 || colAt < 0 {
		err = fmt.Errorf("no column %q or %q", by, column)
	}
	return byAt, colAt, err
}

// statsFast reads eight bytes at a time, as the filter does.
func statsFast(file, by, column string) (map[string]*tally, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const size, slack = 256 << 10, 8
	buf := make([]byte, size+slack) // the last word may begin at its last byte
	length, err := readMore(f, buf[:size], 0)
	if err != nil {
		return nil, err
	}
	line, _, ok := strings.Cut(string(buf[:length]), "\n")
	if !ok {
		return nil, errors.New("no header")
	}
	byAt, colAt, err := columns(strings.Split(strings.TrimSuffix(line, "\r"), ","), by, column)
	if err != nil {
		return nil, err
	}
	groups := map[string]*tally{}
	for row := len(line) + 1; row < length; {
		rest, err := eachRow(buf, row, length, byAt, colAt, groups)
		if err != nil {
			return nil, err
		}
		if rest == 0 {
			return nil, errors.New("a row is longer than the buffer")
		}
		keep := copy(buf, buf[rest:length])
		length, err = readMore(f, buf[:size], keep)
		if err != nil {
			return nil, err
		}
		if length == keep {
			if keep > 0 {
				return nil, errors.New("the last line does not end")
			}
			break
		}
		row = 0
	}
	return groups, nil
}

// readMore fills buf behind its first keep bytes, and returns how many it has.
func readMore(f *os.File, buf []byte, keep int) (int, error) {
	n, err := f.Read(buf[keep:])
	if err == io.EOF {
		err = nil
	}
	return keep + n, err
}

// eachRow adds the whole rows in buf[row:length] to their groups, and returns
// where the first one begins that is not whole.
func eachRow(buf []byte, row, length, byAt, colAt int, groups map[string]*tally) (rest int, err error) {
	cell, start := 0, row // of the current cell
	var key, value []byte
	for word := row; word < length; word += 8 {
		for mask := marks(binary.LittleEndian.Uint64(buf[word:])); mask != 0; mask &= mask - 1 {
			at := word + bits.TrailingZeros64(mask)>>3
			if at >= length {
				break
			}
			switch c := buf[at]; {
			case c == '"':
				return 0, errors.New("a quoted cell")
			case cell == byAt:
				key = buf[start:at]
			case cell == colAt:
				value = buf[start:at]
			}
			cell, start = cell+1, at+1
			if buf[at] == '\n' {
				if cell <= max(byAt, colAt) {
					return 0, errors.New("a row with too few cells")
				}
				tallyOf(groups, trimCR(key)).add(parseInt(trimCR(value)))
				cell, row = 0, start
			}
		}
	}
	return row, nil
}

// marks has bit 7 of each byte set where w has a comma, quote or line feed.
func marks(w uint64) uint64 {
	const low7, ones = 0x7f7f7f7f7f7f7f7f, 0x0101010101010101
	unlike := func(c uint64) uint64 {
		x := w ^ ones*c
		return (x&low7 + low7) | x
	}
	return ^(unlike(',')&unlike('"')&unlike('\n') | low7)
}

func trimCR(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\r' {
		return b[:n-1]
	}
	return b
}

func parseInt(b []byte) (v int64, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 { // 18 digits always fit
		return 0, false
	}
	for _, c := range b {
		d := c - '0'
		if d > 9 {
			return 0, false
		}
		v = v*10 + int64(d)
	}
	if negative {
		v = -v
	}
	return v, true
}

// grepNative is the filter's own loop.
func grepNative(file, pattern string) (matches int, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for r := bufio.NewReaderSize(f, 256<<10); ; {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 && re.Match(trimCR(line[:len(line)-1])) {
			matches++
		}
		if err == io.EOF {
			return matches, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

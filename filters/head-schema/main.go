// Command head-schema is a filter that tells what is in the CSV files of the
// granted datasets without telling any value.
//
//	head-schema [--file PATTERN]
//
// The answer is one JSON object:
//
//	{"files":[{"file":"dataset/path/in/it","rows":2,
//	  "columns":[{"name":"…","type":"integer","empty":0}]}]}
//
// The names are the first row of the file, which is taken to be a header: of
// a file without one, that row is shown. rows does not count it. The type is
// that of all values that are not empty:
//
//	boolean  true, false, yes or no, in any case
//	integer  64 bits, signed
//	decimal  with a point or an exponent, or an integer that is too large
//	date     YYYY-MM-DD, alone or with a time (RFC 3339, offset optional)
//	text     everything else, and columns without values
//
// Blanks around a value do not matter; one of blanks only is empty. Files that
// are not CSV (RFC 4180, as encoding/csv reads it) are an error.
package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/liop-project/liop/filters/sdk/go/guest"
)

const (
	// MaxRow bounds a row, in bytes.
	MaxRow = 1 << 20
	// MaxColumns bounds the header.
	MaxColumns = 4096

	readSize = 256 << 10
)

const usage = "usage: head-schema [--file PATTERN]"

func main() {
	err := run(os.Args[1:], os.Stdout)
	if err != nil {
		guest.Fatal(err)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("head-schema", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	pattern := flags.String("file", "*.csv", "")
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = errors.New("unexpected argument")
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, usage)
	}
	sets, err := guest.Datasets()
	if err != nil {
		return err
	}
	files, err := guest.Files(sets, *pattern)
	if err != nil {
		return err
	}
	var answer struct {
		Files []table `json:"files"`
	}
	for _, f := range files {
		t, err := read(f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		answer.Files = append(answer.Files, t)
	}
	enc := json.NewEncoder(stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(answer)
}

type table struct {
	File    string   `json:"file"`
	Rows    int64    `json:"rows"`
	Columns []column `json:"columns"`
}

type column struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Empty int64  `json:"empty"`

	can    kinds // what all values seen so far can be
	values bool  // there was one
}

func read(f guest.File) (table, error) {
	in, err := os.Open(f.Path)
	if err != nil {
		return table{}, err
	}
	defer in.Close()
	return schema(f.Name, in)
}

// schema reads one CSV file.
func schema(name string, in io.Reader) (table, error) {
	t := table{File: name, Columns: []column{}}
	limit := &rowLimit{r: in}
	buffered := bufio.NewReaderSize(limit, readSize)
	limit.reset()
	if head, _ := buffered.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		buffered.Discard(3) // cannot fail: they are buffered
	}
	rows := csv.NewReader(buffered)
	rows.ReuseRecord = true
	for end := int64(0); ; {
		row, err := rows.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return table{}, err // names lines and columns, no text of the file
		}
		if rows.InputOffset()-end > MaxRow {
			return table{}, errLongRow
		}
		end = rows.InputOffset()
		limit.reset()
		if len(t.Columns) > 0 {
			t.Rows++
			for i, value := range row {
				t.Columns[i].add(value)
			}
			continue
		}
		if len(row) > MaxColumns {
			return table{}, fmt.Errorf("more than %d columns", MaxColumns)
		}
		for _, name := range row {
			t.Columns = append(t.Columns, column{Name: strings.Clone(name), can: allKinds})
		}
	}
	for i := range t.Columns {
		t.Columns[i].Type = t.Columns[i].kind()
	}
	return t, nil
}

// kinds is a set of types.
type kinds uint8

const (
	boolean kinds = 1 << iota
	integer
	decimal
	date

	allKinds = boolean | integer | decimal | date
)

func (c *column) add(value string) {
	value = strings.Trim(value, " \t")
	if value == "" {
		c.Empty++
		return
	}
	c.values = true
	// A kind that one value ruled out is not tried again: text costs nothing.
	if c.can&boolean != 0 && !isBoolean(value) {
		c.can &^= boolean
	}
	if c.can&integer != 0 {
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			c.can &^= integer
		}
	}
	// Where all were integers, all were decimals.
	if c.can&(integer|decimal) == decimal && !isDecimal(value) {
		c.can &^= decimal
	}
	if c.can&date != 0 && !isDate(value) {
		c.can &^= date
	}
}

func (c *column) kind() string {
	switch {
	case !c.values:
		return "text"
	case c.can&boolean != 0:
		return "boolean"
	case c.can&integer != 0:
		return "integer"
	case c.can&decimal != 0:
		return "decimal"
	case c.can&date != 0:
		return "date"
	}
	return "text"
}

func isBoolean(s string) bool {
	return slices.ContainsFunc([]string{"true", "false", "yes", "no"}, func(word string) bool {
		return strings.EqualFold(s, word)
	})
}

// isDecimal leaves out what else ParseFloat reads: infinities, NaN,
// hexadecimal and underscores.
func isDecimal(s string) bool {
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return false
	}
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

func isDate(s string) bool {
	if len(s) < len(time.DateOnly) || s[4] != '-' {
		return false
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02T15:04:05", time.RFC3339} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

var errLongRow = fmt.Errorf("a row is longer than %d bytes", MaxRow)

// rowLimit ends reading in the middle of a row that is far too long, so that a
// quote that is never closed does not take the whole file into memory.
type rowLimit struct {
	r    io.Reader
	left int
}

func (l *rowLimit) reset() { l.left = MaxRow + readSize }

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLongRow
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}

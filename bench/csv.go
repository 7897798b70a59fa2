//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// csvRows is how many different rows there are before they repeat.
const csvRows = 10_000

// writeCSV writes a table of about size bytes that looks like the FAA's of
// wildlife strikes: 14 columns, 120 bytes a row, few groups, CRLF, no quotes.
// It is the same each time.
func writeCSV(path string, size int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	header := "Airport Name,Aircraft Make Model,Effect Amount of damage,Flight Date,Aircraft Airline Operator,Origin State," +
		csvBy + ",Wildlife Size,Wildlife Species,Time of day,Cost Other,Cost Repair," + csvColumn + ",Speed IAS in knots\r\n"
	n, err := f.WriteString(header)
	if err != nil {
		return err
	}
	rows := strikes()
	for left := size - int64(n); left > 0; left -= int64(len(rows)) {
		if left < int64(len(rows)) { // to the end of a row
			rows = rows[:strings.LastIndexByte(rows[:left], '\n')+1]
			left = int64(len(rows))
		}
		if _, err := f.WriteString(rows); err != nil {
			return err
		}
	}
	return nil
}

// strikes is csvRows rows.
func strikes() string {
	r := rand.New(rand.NewPCG(1990, 2002))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var b strings.Builder
	for range csvRows {
		other, repair := 0, 0
		if r.IntN(12) == 0 { // most strikes cost nothing
			other, repair = r.IntN(20_000), r.IntN(1_500_000)
		}
		speed := ""
		if r.IntN(4) > 0 {
			speed = fmt.Sprint(60 + r.IntN(290))
		}
		day := time.Date(1990, 1, 8, 0, 0, 0, 0, time.UTC).AddDate(0, 0, r.IntN(4500))
		fmt.Fprintf(&b, "%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%d,%d,%d,%s\r\n",
			pick("DENVER INTL AIRPORT", "CHICAGO O'HARE INTL ARPT", "JOHN F KENNEDY INTL", "DALLAS/FORT WORTH INTL ARPT", "BARKSDALE AIR FORCE BASE ARPT", "SACRAMENTO INTL", "LA GUARDIA ARPT"),
			pick("B-737-300", "B-757-200", "A-320", "MD-80", "DC-9-30", "T-38A", "KC-10A", "CL-RJ100/200"),
			pick("None", "None", "None", "None", "None", "None", "Minor", "Medium", "Substantial"),
			day.Format(time.DateOnly),
			pick("UNITED AIRLINES", "AMERICAN AIRLINES", "SOUTHWEST AIRLINES", "DELTA AIR LINES", "US AIRWAYS*", "MILITARY"),
			pick("Colorado", "Illinois", "New York", "Texas", "Louisiana", "California"),
			pick("Approach", "Climb", "Descent", "En Route", "Landing Roll", "Parked", "Take-off run"),
			pick("Small", "Medium", "Large"),
			pick("Unknown bird or bat", "Gull", "Sparrow", "Mourning dove", "European starling", "Red-tailed hawk", "Canada goose", "Turkey vulture"),
			pick("Day", "Day", "Day", "Night", "Night", "Dusk", "Dawn"),
			other, repair, other+repair, speed)
	}
	return b.String()
}

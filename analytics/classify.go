package analytics

import (
	"errors"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// blame says whom a failed insert is held against.
type blame int

const (
	// blameEngine: ClickHouse or the way to it. The same rows may go in later.
	blameEngine blame = iota
	// blameData: a value in the rows. The same rows never go in.
	blameData
	// blameUnknown: a code that is in no list. Treated as the engine's, until the
	// batch has come back often enough to look for a culprit among its rows.
	blameUnknown
)

// String names the blame, for tests and logs.
func (b blame) String() string {
	return [...]string{"engine", "data", "unknown"}[b]
}

// Codes of ClickHouse, src/Common/ErrorCodes.cpp, version 26.7. Only the data
// list can send a row to poison, so it is the short and careful one.
var dataCodes = map[int32]string{
	6:   "CANNOT_PARSE_TEXT",
	26:  "CANNOT_PARSE_QUOTED_STRING",
	27:  "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
	38:  "CANNOT_PARSE_DATE",
	41:  "CANNOT_PARSE_DATETIME",
	53:  "TYPE_MISMATCH",
	69:  "ARGUMENT_OUT_OF_BOUND",
	70:  "CANNOT_CONVERT_TYPE",
	72:  "CANNOT_PARSE_NUMBER",
	117: "INCORRECT_DATA",
	128: "TOO_LARGE_ARRAY_SIZE",
	131: "TOO_LARGE_STRING_SIZE",
	190: "SIZES_OF_ARRAYS_DONT_MATCH",
	248: "INVALID_PARTITION_VALUE",
	321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
	349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
	376: "CANNOT_PARSE_UUID",
	395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
	407: "DECIMAL_OVERFLOW",
	467: "CANNOT_PARSE_BOOL",
	469: "VIOLATED_CONSTRAINT",
	691: "UNKNOWN_ELEMENT_OF_ENUM",
}

// engineCodes are known to pass, or to need an operator, and never a culprit
// among the rows: a batch that meets them waits, however long.
var engineCodes = map[int32]string{
	3:    "UNEXPECTED_END_OF_FILE",
	16:   "NO_SUCH_COLUMN_IN_TABLE",
	32:   "ATTEMPT_TO_READ_AFTER_EOF",
	47:   "UNKNOWN_IDENTIFIER",
	60:   "UNKNOWN_TABLE",
	75:   "CANNOT_WRITE_TO_FILE_DESCRIPTOR",
	81:   "UNKNOWN_DATABASE",
	96:   "CANNOT_WRITE_TO_SOCKET",
	101:  "UNEXPECTED_PACKET_FROM_CLIENT",
	115:  "UNKNOWN_SETTING",
	158:  "TOO_MANY_ROWS",
	159:  "TIMEOUT_EXCEEDED",
	160:  "TOO_SLOW",
	164:  "READONLY",
	173:  "CANNOT_ALLOCATE_MEMORY",
	192:  "UNKNOWN_USER",
	193:  "WRONG_PASSWORD",
	194:  "REQUIRED_PASSWORD",
	198:  "DNS_ERROR",
	201:  "QUOTA_EXCEEDED",
	202:  "TOO_MANY_SIMULTANEOUS_QUERIES",
	203:  "NO_FREE_CONNECTION",
	209:  "SOCKET_TIMEOUT",
	210:  "NETWORK_ERROR",
	216:  "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
	218:  "TABLE_IS_DROPPED",
	225:  "NO_ZOOKEEPER",
	236:  "ABORTED",
	241:  "MEMORY_LIMIT_EXCEEDED",
	242:  "TABLE_IS_READ_ONLY",
	243:  "NOT_ENOUGH_SPACE",
	244:  "UNEXPECTED_ZOOKEEPER_ERROR",
	252:  "TOO_MANY_PARTS",
	254:  "NO_ACTIVE_REPLICAS",
	265:  "NO_AVAILABLE_REPLICA",
	279:  "ALL_CONNECTION_TRIES_FAILED",
	285:  "TOO_FEW_LIVE_REPLICAS",
	286:  "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
	289:  "REPLICA_IS_NOT_IN_QUORUM",
	294:  "CANNOT_WRITE_TO_FILE",
	307:  "TOO_MANY_BYTES",
	319:  "UNKNOWN_STATUS_OF_INSERT",
	364:  "RECEIVED_ERROR_TOO_MANY_REQUESTS",
	369:  "ALL_REPLICAS_ARE_STALE",
	394:  "QUERY_WAS_CANCELLED",
	396:  "TOO_MANY_ROWS_OR_BYTES",
	415:  "ALL_REPLICAS_LOST",
	439:  "CANNOT_SCHEDULE_TASK",
	473:  "DEADLOCK_AVOIDED",
	497:  "ACCESS_DENIED",
	499:  "S3_ERROR",
	516:  "AUTHENTICATION_FAILED",
	574:  "DISTRIBUTED_TOO_MANY_PENDING_BYTES",
	692:  "TOO_MANY_MUTATIONS",
	735:  "QUERY_WAS_CANCELLED_BY_CLIENT",
	745:  "SERVER_OVERLOADED",
	774:  "TABLE_IS_PERMANENTLY_READ_ONLY",
	904:  "TOO_MANY_UNAVAILABLE_SHARDS",
	999:  "KEEPER_EXCEPTION",
	1001: "STD_EXCEPTION",
}

// sqlCodes are held against a statement of the schema: what it says is no SQL, or names
// what does not exist, however long one waits. Rights, limits and all that is between
// servers are not among them.
var sqlCodes = map[int32]string{
	10:  "NOT_FOUND_COLUMN_IN_BLOCK",
	15:  "DUPLICATE_COLUMN",
	16:  "NO_SUCH_COLUMN_IN_TABLE",
	36:  "BAD_ARGUMENTS",
	42:  "NUMBER_OF_ARGUMENTS_DOESNT_MATCH",
	43:  "ILLEGAL_TYPE_OF_ARGUMENT",
	44:  "ILLEGAL_COLUMN",
	46:  "UNKNOWN_FUNCTION",
	47:  "UNKNOWN_IDENTIFIER",
	48:  "NOT_IMPLEMENTED",
	50:  "UNKNOWN_TYPE",
	53:  "TYPE_MISMATCH",
	56:  "UNKNOWN_STORAGE",
	60:  "UNKNOWN_TABLE",
	62:  "SYNTAX_ERROR",
	63:  "UNKNOWN_AGGREGATE_FUNCTION",
	80:  "INCORRECT_QUERY",
	115: "UNKNOWN_SETTING",
	184: "ILLEGAL_AGGREGATION",
	215: "NOT_AN_AGGREGATE",
	386: "NO_COMMON_TYPE",
	432: "UNKNOWN_CODEC",
	433: "ILLEGAL_CODEC_PARAMETER",
	450: "BAD_TTL_EXPRESSION",
}

// wrongSQL says whether a statement can never be run, whatever becomes of ClickHouse.
func wrongSQL(err error) bool {
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return false
	}
	_, known := sqlCodes[exception.Code]
	return known
}

// blameOf judges the error of an insert. Whatever is no answer of the server
// (no route, a reset, a deadline, a stop) is the engine's: it says nothing about
// the rows.
func blameOf(err error) blame {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		if _, known := dataCodes[exception.Code]; known {
			return blameData
		}
		if _, known := engineCodes[exception.Code]; known {
			return blameEngine
		}
		return blameUnknown
	}
	// The driver itself could not put a value into a column.
	var value *column.Error
	var conversion *column.ColumnConverterError
	if errors.As(err, &value) || errors.As(err, &conversion) || errors.Is(err, clickhouse.ErrBatchInvalid) {
		return blameData
	}
	return blameEngine
}

// complaint names the kind of trouble, so that a log line comes once for each:
// the code of the server's answer, or that there was none.
func complaint(err error) string {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		return "code " + strconv.Itoa(int(exception.Code))
	}
	return "no answer"
}

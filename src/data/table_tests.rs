use std::slice::from_ref;

use super::*;

const PLAIN: Format = Format {
    header: None,
    delimiter: b',',
    response: Response::Class,
    labels: &[],
    ignore: &[],
    user: None,
    missing: None,
    on_missing: OnMissing::Refuse,
};

fn read(content: &[u8], format: &Format) -> Result<(Table, Vec<String>), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.csv");
    std::fs::write(&path, content).unwrap();
    let read = Table::read(&path, format).and_then(|table| {
        let classes = table.classes(&path)?;
        Ok((table, classes))
    });
    read.map_err(|error| error.to_string().replace(&path.display().to_string(), "table.csv"))
}

fn error(content: &str, format: &Format) -> String {
    read(content.as_bytes(), format).err().unwrap()
}

#[test]
fn rows_become_examples_and_classes_keep_their_names() {
    let text = "length, width ,species\n1.5,2,virginica\n-3,4e-1,setosa\n0,7,setosa\n";
    let (table, classes) = read(text.as_bytes(), &PLAIN).unwrap();
    assert_eq!(classes, ["setosa", "virginica"]);
    let examples = table.examples(Path::new("table.csv"), &classes).unwrap();
    let expected = vec![1.5, 2.0, -3.0, 0.4, 0.0, 7.0];
    assert_eq!(examples, Examples::of_features(expected, vec![1, 0, 0], 2).unwrap());
}

#[test]
fn the_label_may_stand_anywhere_and_integers_are_in_order() {
    let label = Column::Number(2);
    let format = Format { header: Some(false), delimiter: b';', labels: from_ref(&label), ..PLAIN };
    let (table, classes) = read(b"1;10;2\n3;9;4\n5;-1;6\n", &format).unwrap();
    assert_eq!(classes, ["-1", "9", "10"]);
    let examples = table.examples(Path::new("table.csv"), &classes).unwrap();
    let expected = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    assert_eq!(examples, Examples::of_features(expected, vec![2, 1, 0], 2).unwrap());
    let named = Column::Name("c".into());
    let (_, classes) = read(b"c,x\nyes,1\nno,2\n", &Format { labels: from_ref(&named), ..PLAIN }).unwrap();
    assert_eq!(classes, ["no", "yes"]);
    // Spreadsheets begin with a mark of the byte order.
    let (_, classes) =
        read("\u{feff}c,x\nyes,1\nno,2\n".as_bytes(), &Format { labels: from_ref(&named), ..PLAIN }).unwrap();
    assert_eq!(classes, ["no", "yes"]);
}

#[test]
fn every_damage_is_one_line_with_its_place() {
    for (text, want) in [
        ("x,y,c\n1,2,a\n1,b\n", "line 3 has 2 fields where 3 belong"),
        (
            "x,y,c\n1,two,a\n",
            "line 2, column 2 (`y`): `two` is not a finite number; features must be numbers, and other columns named in data.ignore",
        ),
        (
            "x,y,c\n1,\"2,5\",a\n",
            "line 2, column 2 (`y`): `2,5` is not a finite number; write decimals with a point",
        ),
        (
            "x,y,c\n1,2;3,a\n",
            "line 2, column 2 (`y`): `2;3` is not a finite number; is data.delimiter = \";\" meant?",
        ),
        (
            "x,y,c\n1,2,a\n1,,b\n",
            "line 3, column 2 (`y`): no value (``); data.on_missing = \"drop\" or \"mean\" goes on without it",
        ),
        (
            "x,c\nNaN,a\n",
            "line 2, column 1 (`x`): no value (`NaN`); data.on_missing = \"drop\" or \"mean\" goes on without it",
        ),
        (
            "x,c\n1e39,a\n",
            "line 2, column 1 (`x`): `1e39` is not a finite number; features must be numbers, and other columns named in data.ignore",
        ),
        ("x,c\n1,\n", "line 2, column 2 (`c`): no class; give every example one"),
        ("x,c\n", "no example; give one a line"),
        ("", "no example; give one a line"),
        ("x,c\n1,a\n2,a\n", "every example is of class `a`; a classification needs at least two"),
        (
            "c\na\nb\n",
            "1 column between ','; a table needs a class and at least one feature; data.delimiter says what stands between two fields",
        ),
        (
            "x;y;c\n1;2;a\n",
            "1 column between ','; a table needs a class and at least one feature; data.delimiter = \";\" would make 3 of it",
        ),
        (
            "x\ty one\tc\n",
            "1 column between ','; a table needs a class and at least one feature; data.delimiter = \"tab\" would make 3 of it",
        ),
    ] {
        assert_eq!(error(text, &PLAIN), format!("table.csv: {want}"), "{text}");
    }
    assert_eq!(read(b"x,c\n1,\xff\n", &PLAIN).err().unwrap(), "table.csv: line 2: not UTF-8 text");
    let many: String = (0..65_536).map(|i| format!("1,{i}\n")).collect();
    assert_eq!(
        error(&format!("x,c\n{many}"), &PLAIN),
        "table.csv: 65536 classes are more than 65535; is this the column of the class?"
    );
}

#[test]
fn a_first_line_of_numbers_is_an_example_and_one_in_doubt_is_refused() {
    let rows =
        |text: &str, header| read(text.as_bytes(), &Format { header, ..PLAIN }).map(|(table, _)| table.len());
    assert_eq!(rows("1.5,2,a\n3,4,b\n", None), Ok(2));
    assert_eq!(rows("1.5,NA,a\n3,4,b\n5,6,a\n", Some(false)).unwrap_err(), {
        "table.csv: line 1, column 2: no value (`NA`); data.on_missing = \"drop\" or \"mean\" goes on without it"
    });
    assert_eq!(rows("1.5,2,a\n3,4,b\n5,6,a\n", Some(true)), Ok(2));
    // The index of a data frame has no name.
    assert_eq!(rows(",x,c\n1,4,b\n2,6,a\n", None), Ok(2));
    let doubt = "table.csv: line 1 may name the columns or be an example; say which with data.header = true or data.header = false";
    for text in ["0,1,2\n3,4,5\n", "x,1,a\n3,4,b\n", "NA,a\n3,b\n"] {
        assert_eq!(rows(text, None).unwrap_err(), doubt, "{text}");
    }
    assert_eq!(rows("0,1,2\n3,4,5\n6,7,8\n", Some(true)), Ok(2));
    // A column that is asked for by its name makes a header.
    let label = Column::Name("2".into());
    let (table, _) = read(b"0,1,2\n3,4,5\n6,7,8\n", &Format { labels: from_ref(&label), ..PLAIN }).unwrap();
    assert_eq!(table.len(), 2);
}

#[test]
fn ignored_columns_may_hold_anything() {
    let ignore = [Column::Name("id".into()), Column::Number(3)];
    let format = Format { ignore: &ignore, ..PLAIN };
    let (table, classes) = read(b"id,x,note,c\nA7,1,good,a\nB9,2,,b\n", &format).unwrap();
    let examples = table.examples(Path::new("table.csv"), &classes).unwrap();
    assert_eq!(examples, Examples::of_features(vec![1.0, 2.0], vec![0, 1], 1).unwrap());
    // By number also without a header, and the first line is judged by the rest.
    let ignore = [Column::Number(1)];
    let format = Format { ignore: &ignore, ..PLAIN };
    assert_eq!(read(b"A7,1,a\nB9,2,b\n", &format).unwrap().0.len(), 2);
    for (column, want) in [
        (Column::Number(3), "data.ignore names column 3, which is that of the class"),
        (Column::Number(4), "data.ignore: no column 4; there are 3"),
        (Column::Name("z".into()), "data.ignore: no column `z`; the header has x, y, c"),
    ] {
        let refusal = error("x,y,c\n1,2,a\n", &Format { ignore: &[column], ..PLAIN });
        assert_eq!(refusal, format!("table.csv: {want}"));
    }
    let all = [Column::Number(1), Column::Number(2)];
    let refusal = error("x,y,c\n1,2,a\n", &Format { ignore: &all, ..PLAIN });
    assert_eq!(refusal, "table.csv: no feature is left; take a column out of data.ignore");
}

#[test]
fn missing_values_are_dropped_or_get_the_mean_of_the_training_examples() {
    let text = b"x,y,c\n1,?,a\n2,4,b\n,8,b\n3,6,\n6,6,a\n";
    let drop = Format { on_missing: OnMissing::Drop, ..PLAIN };
    let (table, classes) = read(text, &drop).unwrap();
    assert_eq!((table.len(), table.dropped), (2, 3));
    let examples = table.examples(Path::new("table.csv"), &classes).unwrap();
    assert_eq!(examples, Examples::of_features(vec![2.0, 4.0, 6.0, 6.0], vec![1, 0], 2).unwrap());

    let mean = Format { on_missing: OnMissing::Mean, ..PLAIN };
    assert_eq!(
        read(text, &mean).err().unwrap(),
        "table.csv: line 5, column 3 (`c`): no class; give every example one"
    );
    let (mut table, classes) = read(b"x,y,c\n1,?,a\n2,4,b\n,8,b\n6,6,a\n", &mean).unwrap();
    assert_eq!(table.fill_by(&[0, 1, 3], Path::new("table.csv")).unwrap(), [3.0, 5.0]);
    let examples = table.examples(Path::new("table.csv"), &classes).unwrap();
    let expected = vec![1.0, 5.0, 2.0, 4.0, 3.0, 8.0, 6.0, 6.0];
    assert_eq!(examples, Examples::of_features(expected, vec![0, 1, 1, 0], 2).unwrap());
    let (mut table, _) = read(b"x,y,c\n1,?,a\n2,4,b\n", &mean).unwrap();
    assert_eq!(
        table.fill_by(&[0], Path::new("table.csv")).unwrap_err().to_string(),
        "table.csv: column 2 (`y`) has no value in any training example; name it in data.ignore"
    );

    // Listed words replace those by default, and are no classes either.
    let listed = ["-999".to_owned()];
    let format = Format { missing: Some(&listed), ..drop };
    let (table, classes) = read(b"x,c\n-999,a\n1,NA\n2,b\n3,-999\n", &format).unwrap();
    assert_eq!((table.len(), classes.len()), (2, 2));
    assert!(read(b"x,c\n?,a\n1,NA\n2,b\n", &format).err().unwrap().contains("`?` is not a finite number"));
}

#[test]
fn classes_that_are_numbers_are_in_order_of_their_values() {
    let classes = |text: &str| read(text.as_bytes(), &PLAIN).unwrap().1;
    assert_eq!(classes("x,c\n1,10.5\n1,9\n1,1e2\n1,-1\n"), ["-1", "9", "10.5", "1e2"]);
    assert_eq!(classes("x,c\n1,10\n1,9\n1,b\n"), ["10", "9", "b"]);
}

#[test]
fn quantities_are_no_classes_and_twins_are_named() {
    let names = |values: &[&str]| -> Vec<String> { values.iter().map(|&value| value.to_owned()).collect() };
    let targets: String = (0..200).map(|i| format!("{i},{}.25\n", 100 + i)).collect();
    assert_eq!(
        error(&format!("x,price\n{targets}"), &PLAIN),
        "table.csv: 200 classes among 200 examples, all of them numbers: a quantity, which data.response = \"quantity\" learns; \
         or name the column of the class with data.label"
    );
    let whole: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    let doubt = labels::check_kind(&whole, 300).unwrap().unwrap();
    assert_eq!(doubt, "200 classes among 300 examples; is this the column of the class?");
    let halves = names(&["0.5", "1", "1.5"]);
    let doubt = labels::check_kind(&halves, 300).unwrap().unwrap();
    assert_eq!(
        doubt,
        "3 classes among 300 examples, with fractional numbers: each number is a class of its own"
    );
    assert_eq!(labels::check_kind(&whole, 400), Ok(None));
    assert_eq!(labels::check_kind(&names(&["a", "b", "c"]), 3), Ok(None));

    let twins = names(&["01", "1", "1.0", "2", "A", "a", "é", "É"]);
    assert_eq!(
        alike(&twins).unwrap(),
        "classes that differ in writing only: `01` and `1` and `1.0`, `A` and `a`, `é` and `É`; \
         write them alike if they are one"
    );
    assert_eq!(alike(&names(&["0", "1", "a", "b"])), None);
}

#[test]
fn endless_lines_are_given_up() {
    let long = vec![b'7'; LINE + 9000];
    assert_eq!(
        read(&long, &PLAIN).err().unwrap(),
        "table.csv: a line is longer than 16 MiB; this is no table"
    );
    let refusal = Table::read(Path::new("/dev/zero"), &PLAIN).err().unwrap().to_string();
    assert!(
        cfg!(not(unix)) || refusal == "/dev/zero: a device, not a file; name a regular file",
        "{refusal}"
    );
}

#[test]
fn a_label_column_that_is_not_there_is_refused() {
    let (name, number) = (Column::Name("kind".into()), Column::Number(3));
    let with = |label, header| Format { header: Some(header), labels: from_ref(label), ..PLAIN };
    assert_eq!(
        error("x,c\n1,a\n", &with(&name, true)),
        "table.csv: data.label: no column `kind`; the header has x, c"
    );
    assert_eq!(
        error("kind,kind\n1,a\n", &with(&name, true)),
        "table.csv: two columns are called `kind`; give data.label as a number"
    );
    assert_eq!(
        error("1,a\n", &with(&name, false)),
        "table.csv: no header to find the column `kind` in; give data.label as a number from 1 to 2"
    );
    assert_eq!(error("x,c\n1,a\n", &with(&number, true)), "table.csv: data.label: no column 3; there are 2");
    let zero = toml::from_str::<std::collections::BTreeMap<String, Column>>("label = 0").unwrap_err();
    assert!(zero.message().contains("columns are counted from 1"), "{zero}");
}

#[test]
fn a_test_table_must_fit_the_training_table() {
    let table = |text: &str| read(text.as_bytes(), &PLAIN).unwrap().0;
    let path = Path::new("test.csv");
    let training = table("x,y,c\n1,2,a\n3,4,b\n");
    let refusal = |text| table(text).check_beside(&training, path).unwrap_err().to_string();
    assert_eq!(refusal("x,c\n1,a\n3,b\n"), "test.csv: 2 columns where the training table has 3");
    assert_eq!(refusal("x,z,c\n1,2,a\n3,4,b\n"), "test.csv: column 2 is `z`, but `y` in the training table");
    let other = table("x,y,c\n1,2,a\n3,4,d\n");
    other.check_beside(&training, path).unwrap();
    let error = other.examples(path, &["a".into(), "b".into()]).unwrap_err().to_string();
    assert_eq!(error, "test.csv: line 3: no training example is of class `d`");
    let error =
        table("x,y,c\n1,2,a\n3,4,B\n").examples(path, &["a".into(), "b".into()]).unwrap_err().to_string();
    assert_eq!(error, "test.csv: line 3: no training example is of class `B`; it is written `b` there");
}

#[test]
fn responses_are_columns_of_numbers_in_the_order_asked() {
    let columns = [Column::Name("b".into()), Column::Number(1)];
    let quantities = Format { response: Response::Quantity, labels: &columns, ..PLAIN };
    let (table, names) = read(b"a,x,b\n10,1,0.5\n-20,2,1e3\n", &quantities).unwrap();
    assert_eq!(names, ["b", "a"]);
    let rows = Examples::of_features(vec![1.0, 2.0], vec![0, 0], 1).unwrap();
    let expected = rows.with_responses(vec![0.5, 10.0, 1e3, -20.0], 2).unwrap();
    let path = Path::new("table.csv");
    let features = |text: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other.csv");
        std::fs::write(&other, text).unwrap();
        table
            .unlabelled(&other, &quantities, &[])
            .map_err(|error| error.to_string().replace(&other.display().to_string(), "other.csv"))
    };
    assert_eq!(features(b"x\n7\n").unwrap().len(), 1);
    assert_eq!(features(b"a,x,b\n0,7,0\n").unwrap().shape(), [1, 1, 1]);
    let found = features(b"x,b\n7,0\n").unwrap_err();
    let rule = "2 columns; give the 1 of the training table without those that are learnt, or with them";
    assert_eq!(found, format!("other.csv: {rule}"));
    assert_eq!(table.examples(path, &names).unwrap(), expected);
    // The last column, when none is named; without a header it has its number.
    let plain = Format { response: Response::Quantity, header: Some(false), ..PLAIN };
    let (table, names) = read(b"1,2\n3,4\n", &plain).unwrap();
    assert_eq!((names, table.len()), (vec!["column 2".to_owned()], 2));
    for (text, format, want) in [
        ("a,x,b\n1,2,z\n", &quantities, "line 2, column 3 (`b`): `z` is not a finite number; features must"),
        (
            "a,x,b\n,2,3\n",
            &quantities,
            "line 2, column 1 (`a`): no value to learn; data.on_missing = \"drop\"",
        ),
    ] {
        let line = error(text, format);
        assert!(line.starts_with(&format!("table.csv: {want}")), "{line}");
    }
    let drop = Format { on_missing: OnMissing::Drop, ..quantities };
    let (table, names) = read(b"a,x,b\n10,1,\n-20,2,1e3\n", &drop).unwrap();
    let rows = Examples::of_features(vec![2.0], vec![0], 1).unwrap();
    assert_eq!(table.examples(path, &names).unwrap(), rows.with_responses(vec![1e3, -20.0], 2).unwrap());
    let twice = [Column::Number(1), Column::Name("a".into())];
    let format = Format { labels: &twice, ..quantities };
    let line = error("a,x,b\n1,2,3\n", &format);
    assert_eq!(line, "table.csv: data.label names column 1 twice; take entry 2 out");
    let ignore = [Column::Number(3)];
    let format = Format { ignore: &ignore, ..quantities };
    let line = error("a,x,b\n1,2,3\n", &format);
    assert_eq!(line, "table.csv: data.ignore names column 3, which is to be learnt");
}

#[test]
fn labels_are_columns_of_yes_and_no() {
    let columns = [Column::Number(1), Column::Number(2)];
    let labels = Format { response: Response::Labels, labels: &columns, ..PLAIN };
    let (table, names) = read(b"old,red,x\n1,0,5\nTRUE,false,6\n0.0,1.0,7\n", &labels).unwrap();
    assert_eq!(names, ["old", "red"]);
    let examples = table.examples(Path::new("table.csv"), &names).unwrap();
    let of = |i| examples.responses(i).to_vec();
    assert_eq!([of(0), of(1), of(2)], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
    assert_eq!(
        error("old,red,x\n1,2,5\n", &labels),
        "table.csv: line 2, column 2 (`red`): `2` is neither 0 nor 1, which say whether the example has the label"
    );
}

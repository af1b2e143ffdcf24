"""Tests of what `bench/run` makes of figures: `python3 -m unittest discover bench`."""

import json, unittest

import report, tables

HOST = {"host": "a host", "date": "2026-01-02", "rounds": 2}
TITLES = {"net": "Networks", "blk": "Volumes"}


def networks():
    rows = {("nginx, no file", "requests/s"): {"mvm": [300, 100, 200], "QEMU microvm": [50, 100]},
            ("TCP to the machine", "Mbit/s"): {"mvm": [12.3456]}}
    return tables.table("Networks", "About.", "all.", rows, peer="QEMU microvm")


class Cells(unittest.TestCase):
    def test_ratios_of_medians_come_first_and_what_is_missing_is_a_dash(self):
        heads, lines = tables.cells(networks())
        self.assertEqual(heads, ["", "mvm of QEMU microvm", "mvm", "QEMU microvm", "unit"])
        self.assertEqual(lines, [["nginx, no file", "2.67", "200", "75", "requests/s"],
                                 ["TCP to the machine", "–", "12.3", "–", "Mbit/s"]])

    def test_several_sides_of_one_s_own_have_a_ratio_each(self):
        rows = {("walk", "s"): {"mvm": [1.0], "mvm, other": [0.5], "virtiofsd": [2.0]}}
        heads, lines = tables.cells(tables.table("Files", "", "", rows, ["mvm", "mvm, other"], "virtiofsd"))
        self.assertEqual(heads[1:3], ["mvm of virtiofsd", "mvm, other of virtiofsd"])
        self.assertEqual(lines, [["walk", "0.50", "0.25", "1", "0.500", "2", "s"]])

    def test_figures_have_three_digits_that_count(self):
        self.assertEqual([tables.shown(figure) for figure in (1821, 892.4, 22.34, 2.345, 0.03456, 0)],
                         ["1821", "892", "22.3", "2.35", "0.035", "0"])


class Document(unittest.TestCase):
    def test_each_section_tells_its_figures_that_it_failed_or_that_there_are_none(self):
        data = {"net": {"host": HOST, "tables": [networks()]}}
        text = report.document(TITLES, data)
        self.assertIn("- host: a host\n", text)
        self.assertIn("| nginx, no file, requests/s | 2.67 | 200 | 75 |\n", text)
        self.assertIn("About. Held equal: all.", text)
        self.assertIn("## Volumes\n\nNot measured yet: `bench/run --only blk`.\n", text)
        data["net"] = {"host": HOST, "failed": "bench/net: no"}
        text = report.document(TITLES, data)
        self.assertIn("## Networks\n\nIt failed on 2026-01-02: bench/net: no\n", text)
        self.assertNotIn("nginx", text)

    def test_what_sections_do_not_have_in_common_is_told_with_each(self):
        other = {**HOST, "date": "2026-02-03"}
        text = report.document(TITLES, {"net": {"host": HOST, "tables": []}, "blk": {"host": other, "tables": []}})
        self.assertEqual(text.count("a host"), 1)
        self.assertIn("`bench/run --only blk`, date: 2026-02-03\n", text)

    def test_blocks_are_made_anew_and_all_else_stays(self):
        text = "before\n<!-- bench/run: figures -->\nold\n<!-- end -->\nafter\n"
        data = {"net": {"host": HOST, "tables": [networks()]}}
        made = report.blocks(text, data)
        self.assertIn("| nginx | 2.67 | 200 requests/s | QEMU microvm: 75 |\n", made)
        self.assertNotIn("old", made)
        self.assertTrue(made.startswith("before\n") and made.endswith("<!-- end -->\nafter\n"))
        self.assertEqual(report.blocks(made, data), made)

    def test_data_of_a_file_makes_the_same_document(self):
        data = {"net": {"host": HOST, "tables": [networks()]}}
        again = {name: json.loads(report.dumped(section)) for name, section in data.items()}
        self.assertEqual(report.document(TITLES, again), report.document(TITLES, data))


if __name__ == "__main__":
    unittest.main()

"""Testing"""
